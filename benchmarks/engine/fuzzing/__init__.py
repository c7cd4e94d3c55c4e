"""Damaged programs and packages, and a judge of what lanefit does with them. See `benchmarks/engine/fuzz.py`."""
