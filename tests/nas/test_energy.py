"""Searches under an energy budget, with an estimator that was calibrated on energies of networks."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from lanefit.common.errors import ConfigError
from lanefit.estimator.devices.files import load_device, save_device
from lanefit.estimator.devices.fitting import fit_networks
from lanefit.export.graph import Graph
from lanefit.models.registry import families
from lanefit.nas.config import SearchConfig
from lanefit.nas.energy import energy_model
from lanefit.nas.operator_bridge import to_operator_graph
from lanefit.nas.scoring import Cost
from lanefit.nas.search import run_search
from lanefit.nas.space import Space
from lanefit.nas.workbench import workbench
from lanefit.targets.spec import load_spec
