"""Packages: written byte for byte the same, and refused when one byte differs."""

import functools
import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanefit.common.errors import InputError, PackageError
from lanefit.common.files import sha256
from lanefit.export.compiler import compile_graph
from lanefit.export.package import (
    INT8_MODEL,
    MANIFEST,
    PLACEMENT,
    Manifest,
    Package,
    Preprocessing,
    RegionInfo,
    TargetInfo,
    TensorInfo,
    package_bytes,
    parse_package,
    program_name,
    read_package,
    read_placements,
    write_package,
)
from lanefit.export.random_graphs import random_graph
from lanefit.targets.encoding import encode
from lanefit.targets.spec import load_spec


@functools.cache
def _package() -> Package:
    import numpy as np

    spec = load_spec("ne-64")
    graph = random_graph(np.random.default_rng(0))
    program = compile_graph(graph, spec).program
    region = RegionInfo(
        program=program_name(0),
        inputs=tuple(p.name for p in program.inputs),
        outputs=tuple(p.name for p in program.outputs),
    )
    manifest = Manifest(
        name="test",
        inputs=(TensorInfo(name="input", shape=(1, 2), dtype="float32", scale=0.5, zero_point=3),),
        outputs=(TensorInfo(name="output", shape=(1, 2), dtype="float32"),),
        regions=(region,),
        target=TargetInfo(name=spec.name, digest=spec.digest()),
        preprocessing=Preprocessing(resolution=(8, 8), channels=1, mean=(0.5,), std=(0.25,), class_names=("a", "b")),
    )
    files = {INT8_MODEL: b"model", PLACEMENT: b"{}", program_name(0): encode(program)}
    return Package(manifest, files)


def _rezipped(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A package file with a right outer checksum, whatever it holds."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.comment = b"0" * 64
    body = stream.getvalue()[:-64]
    return body + sha256(body).encode()


def _files() -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(package_bytes(_package()))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_package_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "net.lanefit"
    write_package(path, _package())
    package = read_package(path)
    assert package.files == _package().files
    assert package.manifest.model_copy(update={"checksums": {}}) == _package().manifest
    assert package.programs()[0].spec == load_spec("ne-64")


def test_the_same_package_has_the_same_bytes_and_plain_tools_open_it() -> None:
    data = package_bytes(_package())
    reordered = Package(_package().manifest, dict(reversed(_package().files.items())))
    assert package_bytes(reordered) == data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_flipped_bit_is_detected(data: st.DataObject) -> None:
    whole = bytearray(package_bytes(_package()))
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PackageError, match="hint: "):
        parse_package(bytes(whole), where="net.lanefit")


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 0.99999))
def test_any_truncation_is_detected(share: float) -> None:
    whole = package_bytes(_package())
    with pytest.raises(PackageError):
        parse_package(whole[: int(share * len(whole))])


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_with_a_right_checksum_are_refused(body: bytes) -> None:
    body = b"PK\x03\x04" + body
    with pytest.raises(PackageError):
        parse_package(body + sha256(body).encode())


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_package(tmp_path / "absent.lanefit")


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "program.x.bin", "model.onnx/../x"])
def test_foreign_member_names_are_refused(name: str) -> None:
    with pytest.raises(PackageError, match="no member of a package"):
        parse_package(_rezipped({**_files(), name: b""}))


def test_compressed_members_are_refused_before_they_are_unpacked() -> None:
    bomb = {**_files(), INT8_MODEL: bytes(10**7)}
    with pytest.raises(PackageError, match="plain list of stored members"):
        parse_package(_rezipped(bomb, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("name", [INT8_MODEL, PLACEMENT, MANIFEST])
def test_a_missing_member_is_named(name: str) -> None:
    files = _files()
    del files[name]
    with pytest.raises(PackageError, match=f"{name} is missing"):
        parse_package(_rezipped(files))


def test_a_member_that_the_manifest_does_not_vouch_for_is_named() -> None:
    with pytest.raises(PackageError, match="checksum and manifest disagree") as caught:
        parse_package(_rezipped({**_files(), PLACEMENT: b"[]"}), where="net")
    assert caught.value.where == f"net:{PLACEMENT}"


def test_a_newer_schema_version_is_refused_with_the_version() -> None:
    files = _files()
    files[MANIFEST] = files[MANIFEST].replace(b'"schema_version":1', b'"schema_version":9')
    with pytest.raises(PackageError, match="package version 9, this lanefit reads 1"):
        parse_package(_rezipped(files))


def test_an_unknown_manifest_key_is_refused() -> None:
    files = _files()
    files[MANIFEST] = files[MANIFEST].replace(b'"name":"test"', b'"name":"test","extra":1')
    with pytest.raises(PackageError, match="extra"):
        parse_package(_rezipped(files))


def test_ports_that_the_program_does_not_have_are_refused() -> None:
    region = RegionInfo(program=program_name(0), inputs=("other",), outputs=("y",))
    manifest = _package().manifest.model_copy(update={"regions": (region,)})
    with pytest.raises(PackageError, match="ports and manifest disagree"):
        parse_package(package_bytes(Package(manifest, _package().files)))


def test_a_program_for_another_engine_is_refused() -> None:
    target = TargetInfo(name="ne-256", digest=load_spec("ne-256").digest())
    manifest = _package().manifest.model_copy(update={"target": target})
    with pytest.raises(PackageError, match="another engine"):
        parse_package(package_bytes(Package(manifest, _package().files)))


def test_writing_a_member_that_reading_would_refuse_is_refused() -> None:
    with pytest.raises(PackageError, match="no member"):
        package_bytes(Package(_package().manifest, {**_package().files, "notes.txt": b""}))


def test_placements_come_back_and_other_tables_are_refused_with_the_place() -> None:
    row = '{"node": "a", "op_type": "Conv", "where": "engine", "region": 0, "subgraph": "a+b", "reason": "more"}'
    files = {**_package().files, PLACEMENT: f'{{"operators": [{row}]}}'.encode()}
    found = read_placements(Package(_package().manifest, files)).operators
    assert [(item.node, item.subgraph, item.rule) for item in found] == [("a", "a+b", None)]
    with pytest.raises(PackageError, match=r"operators\.0\.node: Field required") as caught:
        read_placements(Package(_package().manifest, {**files, PLACEMENT: b'{"operators": [{}]}'}))
    assert caught.value.where == PLACEMENT
