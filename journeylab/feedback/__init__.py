"""The voice of the customer: what they answer, how it feels, where it hurts, and who keeps silent."""
