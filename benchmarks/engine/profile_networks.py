"""Compiles and times MobileNetV2-1.0-224 and ResNet-18 (random weights) for one engine.

`cycles` is the timing model on the compiled program, `lower_bound_cycles` the largest of array work, vector
work and compulsory bytes; `compile_seconds` covers planning and lowering, `timing_seconds` the simulation.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from lanefit.export.importer import import_graph
from lanefit.export.lower import lower
from lanefit.export.onnx_export import to_onnx
from lanefit.export.plan import plan
from lanefit.export.quantise import quantise
from lanefit.targets.spec import load_spec
from lanefit.targets.timing import simulate

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import finish, parser
from networks import INPUT_SHAPE, NETWORKS
