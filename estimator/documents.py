"""Reading the JSON documents that estimators are stored in: checked against a schema before anything is built."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ..common.errors import EstimatorError, LanefitError
from ..common.files import read_json


class Document(BaseModel):
    """What every stored estimator begins with; a subclass adds its `format` and its keys."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    schema_version: int


D = TypeVar("D", bound=Document)


def read_document(path: Path, schema: type[D], *, format: str, version: int, noun: str, again: str) -> D:
    """The document at `path`; `noun` names what it should be and `again` is the hint.

    Raises:
        EstimatorError: it is damaged, something else, or of another schema version.
    """
    try:
        value = read_json(path)
    except LanefitError as error:
        raise EstimatorError(error.what, where=str(path), hint=again) from error
    except RecursionError as error:
        raise EstimatorError(f"{path.name} is nested too deeply", where=str(path), hint=again) from error
    if isinstance(value, dict) and value.get("format") == format and value.get("schema_version") != version:
        raise EstimatorError(
            f"{path.name} has schema version {value.get('schema_version')!r}, this lanefit reads {version}",
            where=str(path),
            hint=again,
        )
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "file"
        raise EstimatorError(
            f"{path.name} is not {noun}: {key}: {first['msg']}", where=str(path), hint=again
        ) from error
