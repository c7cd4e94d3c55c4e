"""What a MODEL argument may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from lanefit.cli.model_argument import ModelKind, resolve
from lanefit.common.errors import InputError, LanefitError
from lanefit.models.baselines import mobilenet_v2
from lanefit.models.registry import families


def test_a_family_stands_for_the_middle_of_its_space() -> None:
    found = resolve("ibn-classifier")
    assert found.kind is ModelKind.ARCHITECTURE
    assert found.architecture == families.get("ibn-classifier").middle()
    assert found.task().name == "digits"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("baseline", mobilenet_v2()),
        ("mobilenet-v2", mobilenet_v2()),
        ("mobilenet-v2-1.0-224", mobilenet_v2(1.0, 224)),
        ("mobilenet-v2-0.35-32", mobilenet_v2(0.35, 32)),
    ],
)
def test_baselines_go_by_name(text: str, expected: object) -> None:
    assert resolve(text).architecture == expected


def test_an_architecture_file_is_read(architecture_file: Path) -> None:
    direct = resolve(str(architecture_file))
    assert direct == resolve("ibn-classifier", architecture=architecture_file)
    assert direct.name == "tiny"
    assert direct.module().training is False


def test_files_go_by_their_suffix() -> None:
    assert resolve("x/net.onnx").kind is ModelKind.ONNX
    assert resolve("net.lanefit").kind is ModelKind.PACKAGE


def test_an_unknown_model_lists_what_is_accepted() -> None:
    with pytest.raises(
        InputError, match=r"(?s)unknown model 'ibn-clasifier'.*did you mean ibn-classifier.*\.onnx file"
    ):
        resolve("ibn-clasifier")


@pytest.mark.parametrize("text", ["mobilenet-v2-9-32", "mobilenet-v2-1"])
def test_a_baseline_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(LanefitError):
        resolve(text)


def test_an_architecture_of_another_family_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"family": "other", "knobs": {}}', encoding="utf-8")
    with pytest.raises(InputError, match="of family 'other'"):
        resolve("ibn-classifier", architecture=path)


def test_a_folder_without_a_search_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no search"):
        resolve(str(tmp_path))
