"""Where events come from: one reader per kind of source."""
