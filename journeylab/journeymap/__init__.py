"""The journey map: stages across, lanes down, each cell with its base, its interval and its grade of evidence."""

from journeylab.journeymap.build import build_map as build_map
from journeylab.journeymap.model import EVIDENCE as EVIDENCE
from journeylab.journeymap.model import LANES as LANES
from journeylab.journeymap.model import JourneyMap as JourneyMap
from journeylab.journeymap.model import load_map as load_map
