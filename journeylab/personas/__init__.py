"""Who are the customers, by what they do? `fit_personas` finds them, `MarkovMixture` is the model behind it."""

from __future__ import annotations

from journeylab.personas.fit import Personas, fit_personas
from journeylab.personas.markov import MarkovMixture

__all__ = ["MarkovMixture", "Personas", "fit_personas"]
