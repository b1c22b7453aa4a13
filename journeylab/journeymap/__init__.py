"""The journey map: stages across, lanes down, each cell with its base, its interval and its grade of evidence."""

from journeylab.journeymap.build import build_map as build_map
from journeylab.journeymap.costs import compare_costs as compare_costs
from journeylab.journeymap.costs import describe_costs as describe_costs
from journeylab.journeymap.day import count_day as count_day
from journeylab.journeymap.day import count_stage_roles as count_stage_roles
from journeylab.journeymap.model import EVIDENCE as EVIDENCE
from journeylab.journeymap.model import LANES as LANES
from journeylab.journeymap.model import JourneyMap as JourneyMap
from journeylab.journeymap.model import load_map as load_map
from journeylab.journeymap.parts import split_journeys as split_journeys
