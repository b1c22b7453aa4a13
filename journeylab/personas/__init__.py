"""Who are the customers, by what they do? `fit_personas` finds them, proves them, and describes them."""

from __future__ import annotations

from journeylab.personas.assigning import MarkovPersonas
from journeylab.personas.counting import MarkovRules
from journeylab.personas.distances import SequenceRules
from journeylab.personas.features import FeatureRules
from journeylab.personas.fit import Personas, fit_personas
from journeylab.personas.markov import MarkovMixture
from journeylab.personas.naming import rename_personas
from journeylab.personas.saving import load_personas, save_personas
from journeylab.personas.stated import attach_stated
from journeylab.personas.tracking import Tracking, track_personas

__all__ = [
    "FeatureRules",
    "MarkovMixture",
    "MarkovPersonas",
    "MarkovRules",
    "Personas",
    "SequenceRules",
    "Tracking",
    "attach_stated",
    "fit_personas",
    "load_personas",
    "rename_personas",
    "save_personas",
    "track_personas",
]
