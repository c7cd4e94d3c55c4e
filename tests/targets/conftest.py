"""Lets the tests of this folder share `engine_programs`, under `pytest` and `python -m pytest` alike."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
