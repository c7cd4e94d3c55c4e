"""Operator graphs of devices that are only measured: what a runtime executes, one node per operator."""
