"""Settings of every test process, made before torch loads."""

import os

# Tests run in several processes: threads that spin while they wait would starve the other ones.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
