"""The repository is laid out as it says it is."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_package_on_disk_is_listed_and_every_listed_one_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"])
    skipped = {"tests", "benchmarks", "docs", "examples", "build", "runs"}
    found = {
        "lanefit." + ".".join(path.parent.relative_to(ROOT).parts)
        for path in ROOT.rglob("__init__.py")
        if not any(part.startswith(".") or part in skipped for part in path.relative_to(ROOT).parts)
    }
    assert listed == found


def test_every_direct_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = set(project["dependencies"]).union(*project["optional-dependencies"].values())
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0] for line in lines if "==" in line and not line.startswith("#")}
    assert wanted == pinned


def test_no_file_outgrows_the_house() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in ROOT.rglob("*.py")
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
        and (count := len(path.read_text().splitlines())) > 500
    }
    assert long == {}
