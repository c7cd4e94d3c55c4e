"""The `[precision]` table of a TOML file: patterns of operator names, first fit first, and a default.

[precision]
default = "int8"
"stage3.*" = "bf16"
head = "int8x16"
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from ..common.errors import ConfigError, UnknownNameError
from ..common.files import read_config_text
from ..kernels.element_types import PRECISIONS
from .precision import Precision

_TABLE, _DEFAULT = "precision", "default"


def read_precision(path: Path) -> Precision:
    """The precisions in a file; other tables in it are left to others.

    Raises `ConfigError` for a file without such a table or with values that are no text, `UnknownNameError` for a
    precision that does not exist.
    """
    try:
        document = tomllib.loads(read_config_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not TOML: {error}", where=str(path)) from error
    table = document.get(_TABLE)
    if not isinstance(table, dict):
        hint = 'write a table [precision] with lines such as "stage3.*" = "bf16"'
        raise ConfigError("the file has no table [precision]", where=str(path), hint=hint)
    for pattern, name in table.items():
        where = f"{path}:{_TABLE}.{pattern}"
        if not isinstance(name, str):
            raise ConfigError(f"a precision is one of {', '.join(PRECISIONS)}, not {name!r}", where=where)
        if name not in PRECISIONS:
            raise UnknownNameError("precision", name, PRECISIONS, where=where)
    return Precision(table.get(_DEFAULT, "int8"), tuple(item for item in table.items() if item[0] != _DEFAULT))
