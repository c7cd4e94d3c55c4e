"""Settings of every test process, made before torch loads."""

import os

# Tests run in several processes: threads that spin while they wait would starve the other ones.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
