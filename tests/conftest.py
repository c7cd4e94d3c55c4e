"""Settings of every test process, made before torch loads."""

import os

from hypothesis import settings

# Tests run in several processes: threads that spin while they wait would starve the other ones.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

# The same examples in every run, so that a red test is the change's doing; LANEFIT_EXPLORE=1 draws fresh ones.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("default" if os.environ.get("LANEFIT_EXPLORE") else "repeatable")
