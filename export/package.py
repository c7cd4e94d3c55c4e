"""One package file: a stored zip of the models, the programs and the host library, under checksums.

Reading trusts nothing: the archive comment holds the SHA-256 of everything before it, members have known names,
no compression and sizes that add up, and the manifest repeats the checksum of each. Programs are decoded and
bounds-checked; the host library is never loaded here. Same content, same bytes.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ..common.errors import InputError, PackageError
from ..common.files import canonical_json, sha256, write_atomic
from ..targets.encoding import decode
from ..targets.program import Program

SCHEMA_VERSION = 1
MAX_PACKAGE_BYTES = 2**31
MANIFEST, MODEL, INT8_MODEL = "manifest.json", "model.onnx", "model.int8.onnx"
HOST, PLACEMENT = "host.so", "placement.json"
_FIXED = (MANIFEST, MODEL, INT8_MODEL, HOST, PLACEMENT)
_PROGRAM = re.compile(r"program(\.[1-9][0-9]*)?\.bin")
_REQUIRED = (MANIFEST, INT8_MODEL, PLACEMENT)
_EPOCH = (1980, 1, 1, 0, 0, 0)
_DIGEST_BYTES = 64  # hexadecimal SHA-256 in the archive comment


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorInfo(_Part):
    """An input or output of the model. `scale` and `zero_point` are those of its int8 form, where it has one."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


class RegionInfo(_Part):
    """One program and its ports, in the order in which the host module passes them."""

    program: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class PlacedOperator(BaseModel):
    """A row of the placement table: where an ONNX operator runs, in which subgraph, or the rule that refused it."""

    model_config = ConfigDict(frozen=True)

    node: str
    op_type: str
    where: str
    region: int | None = None
    subgraph: str | None = None
    rule: str | None = None
    value: str | None = None


class PlacedBuffer(BaseModel):
    """A row of the memory plan: a tensor or buffer of `label` in SRAM, and when, from the begin of its region."""

    model_config = ConfigDict(frozen=True)

    region: int
    name: str
    kind: str
    label: str
    address: int
    size_bytes: int
    start_us: float
    end_us: float


class Placements(BaseModel):
    """The placement table of a package; what older ones lack is empty."""

    model_config = ConfigDict(frozen=True)

    operators: tuple[PlacedOperator, ...] = ()
    sram: tuple[PlacedBuffer, ...] = ()


class Preprocessing(_Part):
    """How raw data becomes the model's input: resize to `resolution`, divide by 255, subtract mean, divide by std."""

    resolution: tuple[int, int] | None = None
    channels: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    class_names: tuple[str, ...] = ()


class TargetInfo(_Part):
    name: str
    digest: str


class Manifest(_Part):
    """What the package is, was made for and was made with. Free-form tables hold JSON values only."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    regions: tuple[RegionInfo, ...]
    target: TargetInfo
    host: dict[str, str] | None = None
    preprocessing: Preprocessing | None = None
    figures: dict[str, float] = {}
    verdict: dict[str, Any] | None = None
    verification: dict[str, Any] | None = None
    toolchain: dict[str, str] = {}
    provenance: dict[str, str] = {}
    checksums: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Package:
    """Manifest and the other members by name; `programs` in the order of the manifest's regions."""

    manifest: Manifest
    files: Mapping[str, bytes]

    def programs(self) -> tuple[Program, ...]:
        """The decoded programs; `PackageError` when one does not fit the manifest."""
        programs = tuple(decode(self.files[region.program]) for region in self.manifest.regions)
        for region, program in zip(self.manifest.regions, programs, strict=True):
            ports = ([p.name for p in program.inputs], [p.name for p in program.outputs])
            if ports != (list(region.inputs), list(region.outputs)):
                raise PackageError("ports and manifest disagree", where=region.program)
            if program.spec.digest() != self.manifest.target.digest:
                raise PackageError("the program is for another engine than the manifest says", where=region.program)
        return programs


def program_name(region: int) -> str:
    return f"program.{region}.bin" if region else "program.bin"


def write_package(path: Path, package: Package) -> None:
    """Writes the package atomically; the same package gives the same bytes."""
    write_atomic(path, package_bytes(package))


def package_bytes(package: Package) -> bytes:
    files = {name: bytes(data) for name, data in package.files.items()}
    manifest = package.manifest.model_copy(update={"checksums": {n: sha256(d) for n, d in sorted(files.items())}})
    files[MANIFEST] = (canonical_json(manifest.model_dump(mode="json")) + "\n").encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            _check_name(name)
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, files[name])
        archive.comment = b"0" * _DIGEST_BYTES
    body = stream.getvalue()[:-_DIGEST_BYTES]
    return body + sha256(body).encode()


def read_package(path: Path) -> Package:
    """The verified package in `path`. Nothing in it is executed.

    Raises `PackageError` when the file is truncated, altered, foreign or from a newer lanefit.
    """
    try:
        if path.stat().st_size > MAX_PACKAGE_BYTES:
            raise PackageError(f"{path.stat().st_size} bytes are more than a package may have", where=str(path))
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path.name}: {error.strerror}", where=str(path)) from error
    return parse_package(data, where=str(path))


def parse_package(data: bytes, *, where: str = "") -> Package:
    """As `read_package`, from memory."""
    hint = "copy or export the package again"
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if not data.startswith(b"PK\x03\x04"):
        raise PackageError("not a lanefit package", where=where, hint=hint)
    if sha256(body).encode() != digest:
        raise PackageError("the package is truncated or altered: its checksum does not fit", where=where, hint=hint)
    try:
        files = _members(data)
        package = Package(_manifest(files), {name: value for name, value in files.items() if name != MANIFEST})
        _check_members(package)
        package.programs()
    except PackageError as error:
        place = f"{where}:{error.where}" if error.where else where
        raise PackageError(error.what, where=place, hint=error.hint or hint) from error
    return package


def read_placements(package: Package) -> Placements:
    """The package's placement table; `PackageError` when it is not one."""
    try:
        return Placements.model_validate_json(package.files[PLACEMENT])
    except ValidationError as error:
        first = error.errors()[0]
        raise PackageError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", where=PLACEMENT) from error


def _members(data: bytes) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                _check_name(entry.filename)
                stored = entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size
                if entry.filename in files or not stored or entry.file_size > len(data):
                    raise PackageError("the archive is not a plain list of stored members", where=entry.filename)
                files[entry.filename] = archive.read(entry)
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError, struct.error) as error:
        if isinstance(error, PackageError):
            raise
        raise PackageError(f"the archive is damaged: {error}") from error
    absent = [name for name in _REQUIRED if name not in files]
    if absent:
        raise PackageError(f"{absent[0]} is missing")
    return files


def _check_name(name: str) -> None:
    if name not in _FIXED and not _PROGRAM.fullmatch(name):
        raise PackageError(f"{name!r} is no member of a package", hint="the file was not written by lanefit")


def _manifest(files: Mapping[str, bytes]) -> Manifest:
    try:
        return Manifest.model_validate_json(files[MANIFEST])
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if key == "schema_version":
            what = f"package version {first['input']!r}, this lanefit reads {SCHEMA_VERSION}"
            raise PackageError(what, where=MANIFEST, hint="use the lanefit that wrote it, or export again") from error
        raise PackageError(f"{key}: {first['msg']}", where=MANIFEST) from error


def _check_members(package: Package) -> None:
    found = {name: sha256(data) for name, data in package.files.items()}
    if found != package.manifest.checksums:
        odd = sorted(set(found.items()) ^ set(package.manifest.checksums.items()))[0][0]
        raise PackageError("checksum and manifest disagree", where=odd)
    named = [region.program for region in package.manifest.regions]
    stored = [name for name in found if name.startswith("program")]
    if sorted(named) != sorted(stored):
        raise PackageError(f"regions name {sorted(named)}, the archive holds {sorted(stored)}", where=MANIFEST)
