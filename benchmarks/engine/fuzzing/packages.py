"""Mutations of packages: raw bytes, the archive's structure, members, the manifest, and the programs inside."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Sequence

from lanefit.common.files import sha256
from lanefit.export.package import HOST, INT8_MODEL, MANIFEST, MODEL, PLACEMENT, program_name

from .programs import Draft
from .programs import mutant as program_mutant
from .values import changed_json, flipped, integer

_DIGEST_BYTES = 64
_NAMES = ("../escape", "/etc/passwd", "program.0.bin", "program.x.bin", "", "a/b", "\0", "图像", "manifest.json/",
          MODEL, HOST, program_name(1), program_name(7))  # fmt: skip
_TEXTS = (b"", b"{}", b"[]", b"null", b'{"operators": [{}]}', b'{"operators": 3}', b"PK\x03\x04", b"\x80\x04N.")
Files = dict[str, bytes]


def members(data: bytes) -> Files:
    """The members of an undamaged package."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def mutant(rng: random.Random, packages: Sequence[Files], drafts: Sequence[Draft]) -> bytes:
    """A damaged package made from one of the `packages`; `drafts` are programs to put inside."""
    files = dict(rng.choice(packages))
    choice = rng.random()
    if choice < 0.12:
        return flipped(rng, _zipped(files))
    if choice < 0.4:
        return _resealed(_damaged_archive(rng, _zipped(files)))
    if choice < 0.6:
        _change_members(rng, files)
    elif choice < 0.85:
        files[MANIFEST] = changed_json(rng, files[MANIFEST])
    else:
        files[program_name(0)] = program_mutant(rng, drafts)
    if rng.random() < 0.85:
        _vouch(files)
    compression = zipfile.ZIP_DEFLATED if rng.random() < 0.03 else zipfile.ZIP_STORED
    return _zipped(files, compression)


def _zipped(files: Files, compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, compression)
        archive.comment = b"0" * _DIGEST_BYTES
    return _resealed(stream.getvalue())


def _resealed(data: bytes) -> bytes:
    """The same bytes with a right digest at their end."""
    body = data[:-_DIGEST_BYTES]
    return body + sha256(body).encode()


def _damaged_archive(rng: random.Random, data: bytes) -> bytes:
    """Headers of the archive changed: local ones, the central directory, or the record at its end."""
    found = bytearray(data)
    signatures = (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06")
    for _ in range(rng.randint(1, 3)):
        starts = [at for signature in signatures for at in _places(found, signature)]
        if not starts or rng.random() < 0.1:
            return flipped(rng, bytes(found))
        at = rng.choice(starts) + rng.randrange(4, 48)
        if at + 4 <= len(found):
            if rng.random() < 0.5:
                struct.pack_into("<i", found, at, integer(rng, struct.unpack_from("<i", found, at)[0]))
            else:
                found[at] = rng.choice((0, 1, 8, 9, 12, 14, 0x7F, 0x80, 0xFF))
    return bytes(found)


def _places(data: bytearray, signature: bytes) -> list[int]:
    found: list[int] = []
    at = data.find(signature)
    while at >= 0:
        found.append(at)
        at = data.find(signature, at + 1)
    return found


def _change_members(rng: random.Random, files: Files) -> None:
    name = rng.choice(sorted(files))
    match rng.randrange(5):
        case 0:
            del files[name]
        case 1:
            files[rng.choice(_NAMES)] = files[name]
        case 2:
            files[name] = rng.choice(_TEXTS)
        case 3:
            files[PLACEMENT] = changed_json(rng, files[PLACEMENT])
        case _:
            files[name] = flipped(rng, files[name])


def _vouch(files: Files) -> None:
    """Puts right checksums into the manifest, where it still is one."""
    try:
        manifest = json.loads(files[MANIFEST])
        manifest["checksums"] = {name: sha256(data) for name, data in files.items() if name != MANIFEST}
        files[MANIFEST] = json.dumps(manifest).encode()
    except (KeyError, TypeError, ValueError, RecursionError):
        files.setdefault(INT8_MODEL, b"")
