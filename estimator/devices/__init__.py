"""Models of devices that are only measured: boards, GPUs, this host."""
