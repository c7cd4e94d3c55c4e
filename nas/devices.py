"""Where training runs: "auto", "cpu" or "cuda" resolved to a torch device."""

from __future__ import annotations

import torch

from ..common.errors import ConfigError, UnknownNameError

DEVICES = ("auto", "cpu", "cuda")


def check_device(name: str) -> None:
    """Raises `UnknownNameError` unless `name` is one of `DEVICES`."""
    if name not in DEVICES:
        raise UnknownNameError("device", name, DEVICES)


def resolve_device(name: str) -> torch.device:
    """The device called `name`; "auto" prefers a CUDA GPU. A GPU that is asked for and absent is an error."""
    check_device(name)
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("there is no CUDA GPU that torch can use", where="device", hint="use cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
