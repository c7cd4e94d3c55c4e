"""Every error that lanefit raises on purpose.

LanefitError
├── InputError (ValueError)            exit 2   what the user gave cannot be used
│   ├── ConfigError                             a TOML/JSON file or an option
│   ├── SpecError                               an engine description contradicts itself
│   ├── ModelError                              an ONNX file, graph or tensor
│   ├── PackageError                            a package or program file is damaged or foreign
│   ├── TableError                              rows of a user's table cannot be used; names them
│   └── EstimatorError                          a measurement store or estimator is damaged, foreign or unfit
├── UnknownNameError (KeyError)        exit 2   a name that no registry knows; lists the known ones
├── UnsupportedError (ValueError)      exit 2   understood, but no rule covers it; names rule and value
├── BudgetError (RuntimeError)         exit 1   ran, verdict negative
├── DeviceError (RuntimeError)         exit 3   the engine or its program misbehaved
│   ├── ProgramFault                            out of bounds, deadlock, overflow in a program
│   ├── ToolchainError                          TVM, a compiler or a runtime refused
│   └── VerificationError          exit 1       two stages of an export disagree
└── Interrupted (RuntimeError)         exit 130 stopped by the user, state saved
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LanefitError(Exception):
    """One line what, one line where, one hint; `code` is stable and appears in JSON."""

    code = "error"
    exit_code = 2

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what, where, hint)
        self.what, self.where, self.hint = what, where, hint

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  at {self.where}")
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.hint))

    def as_dict(self) -> dict[str, str]:
        """The JSON form of the error, `{"code", "what", "where", "hint"}`."""
        return {"code": self.code, "what": self.what, "where": self.where, "hint": self.hint}


def _rebuild(cls: type[LanefitError], what: str, where: str, hint: str) -> LanefitError:
    error = cls.__new__(cls)
    LanefitError.__init__(error, what, where=where, hint=hint)
    return error


class InputError(LanefitError, ValueError):
    code = "input"


class ConfigError(InputError):
    code = "config"


class SpecError(InputError):
    code = "spec"


class ModelError(InputError):
    code = "model"


class PackageError(InputError):
    code = "package"


class TableError(InputError):
    code = "table"


class EstimatorError(InputError):
    code = "estimator"


class UnsupportedError(LanefitError, ValueError):
    code = "unsupported"


class UnknownNameError(LanefitError, KeyError):
    """`kind` is the sort of name ("target"), `known` every name that would have worked."""

    code = "unknown-name"

    def __init__(self, kind: str, name: str, known: Iterable[str], *, where: str = "") -> None:
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        super().__init__(f"unknown {kind} {name!r}", where=where, hint=f"{hint}known: {', '.join(names) or 'none'}")


class BudgetError(LanefitError, RuntimeError):
    code = "budget"
    exit_code = 1


class DeviceError(LanefitError, RuntimeError):
    code = "device"
    exit_code = 3


class ProgramFault(DeviceError):
    code = "program-fault"


class ToolchainError(DeviceError):
    code = "toolchain"


class VerificationError(DeviceError):
    code = "verification"
    exit_code = 1


class Interrupted(LanefitError, RuntimeError):
    code = "interrupted"
    exit_code = 130
