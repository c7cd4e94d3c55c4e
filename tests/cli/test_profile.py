"""`lanefit profile`: verdict, figures, CPU operators, errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_runner import Cli
from export_examples import EveryOperator, Mixed, float_model, int8_model

from lanefit.common.budget import Budget
from lanefit.common.labels import short_label
from lanefit.estimator.fit import FitBudget
from lanefit.export.onnx_model import model_bytes
from lanefit.export.precision import Precision, with_precision
from lanefit.models.registry import families, find_task
from lanefit.nas.estimators import cached_estimator_path, fit_estimator, sample_graphs
from lanefit.targets.spec import load_spec


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Float and quantised ONNX files: `every` for the engine alone, `mixed` with operators that it refuses."""
    folder = tmp_path_factory.mktemp("models")
    for kind in (EveryOperator, Mixed):
        (folder / f"{kind.__name__.lower()}.onnx").write_bytes(model_bytes(float_model(kind)))
        (folder / f"{kind.__name__.lower()}.int8.onnx").write_bytes(model_bytes(int8_model(kind)))
    return folder


def test_the_verdict_comes_first_and_decides_the_exit_code(cli: Cli, architecture_file: Path) -> None:
    for limit, code, word in (("latency=1s", 0, "PASS"), ("latency=1ns", 1, "FAIL")):
        ran = cli("profile", architecture_file, "--target", "ne-64", "--budget", limit, "-b", "sram=128KiB")
        assert ran.code == code
        assert ran.out.startswith(f"{word}  latency")
        assert "slack" in ran.out.splitlines()[0]


def test_the_verdict_stays_on_one_line_in_a_narrow_terminal(
    cli: Cli, architecture_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    ran = cli("profile", architecture_file, "-t", "ne-64", "-b", "latency=1ms", "-b", "sram=128KiB")
    assert ran.out.splitlines()[0].endswith("slack)")


def test_figures_add_up(cli: Cli, architecture_file: Path) -> None:
    document = cli("profile", architecture_file, "-t", "ne-64", "--format", "json").document
    totals, rows = document["totals"], document["subgraphs"]
    assert sum(row["added_cycles"] for row in rows) == pytest.approx(totals["cycles"])
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert sum(row["macs"] for row in rows) == totals["macs"]
    assert totals["latency_us"] == pytest.approx(totals["cycles"] / load_spec("ne-64").clock_mhz)
    assert totals["lower_bound_cycles"] <= totals["cycles"]
    assert document["verdict"]["passed"] is True


def test_the_slowest_get_a_suggestion_each(cli: Cli, architecture_file: Path) -> None:
    document = cli("profile", architecture_file, "-t", "ne-64", "--top", "2", "--format", "json").document
    assert len(document["worst"]) == 2
    assert all(item["advice"] for item in document["worst"])
    assert cli("profile", architecture_file, "-t", "ne-64", "--top", "0").code == 0


def test_a_float_onnx_file_is_quantised_with_a_warning(cli: Cli, models: Path) -> None:
    ran = cli("profile", models / "everyoperator.onnx", "-t", "ne-64", "--format", "json")
    assert ran.code == 0
    assert "scales are placeholders" in ran.err
    quantised = cli("profile", models / "everyoperator.int8.onnx", "-t", "ne-64", "--format", "json")
    assert quantised.err == ""
    assert quantised.document["totals"] == ran.document["totals"]


def test_operators_on_the_cpu_leave_a_latency_budget_unproven(cli: Cli, models: Path) -> None:
    words = ("profile", models / "mixed.int8.onnx", "-t", "ne-64")
    ran = cli(*words, "-b", "latency=1s")
    assert ran.code == 1
    assert ran.out.startswith("FAIL")
    assert "latency not proven" in ran.out.splitlines()[0]
    assert "LogSoftmax" in ran.out
    assert "on the engine alone" in ran.out
    assert cli(*words, "-b", "sram=128KiB").code == 0
    document = cli(*words, "--format", "json").document
    refused = [item for item in document["cpu"] if item["op_type"] == "LogSoftmax"]
    assert refused[0]["rule"] == "operator"
    assert document["totals"]["cpu_operators"] >= 1


def test_a_package_is_profiled_for_its_own_target(cli: Cli, package_file: Path, architecture_file: Path) -> None:
    document = cli("profile", package_file, "--format", "json").document
    assert document["target"] == "ne-64"
    direct = cli("profile", architecture_file, "-t", "ne-64", "--format", "json").document
    assert document["totals"] == direct["totals"]


def test_optimising_for_sram_takes_less_of_it_and_little_more_time(cli: Cli, architecture_file: Path) -> None:
    words = ("profile", architecture_file, "-t", "nvdla-small", "--format", "json")
    fast, small = (cli(*words, "--optimise", mode).document["totals"] for mode in ("latency", "sram"))
    assert small["sram_bytes"] < fast["sram_bytes"]
    assert small["cycles"] <= 1.25 * fast["cycles"]


def test_only_plans_for_latency_are_predicted(cli: Cli, architecture_file: Path) -> None:
    ran = cli("profile", architecture_file, "-t", "ne-64", "--predicted", "--optimise", "sram")
    assert ran.code == 2
    assert "plans for latency" in ran.err


def test_less_sram_is_respected(cli: Cli, architecture_file: Path) -> None:
    words = ("profile", "baseline", "-t", "ne-256", "--format", "json")
    assert cli(*words, "--sram-limit", "96KiB").document["totals"]["sram_bytes"] <= 96 * 1024
    ran = cli("profile", architecture_file, "-t", "ne-64", "--sram-limit", "100B")
    assert ran.code == 2
    assert "SRAM" in ran.err


def test_the_trace_is_a_timeline_of_the_whole_run(cli: Cli, architecture_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    document = cli("profile", architecture_file, "-t", "ne-64", "--trace", path, "--format", "json").document
    events = [e for e in json.loads(path.read_text(encoding="utf-8"))["traceEvents"] if e["ph"] == "X"]
    assert max(e["ts"] + e["dur"] for e in events) == pytest.approx(document["totals"]["latency_us"], rel=0.05)


def test_plots_are_written_with_their_data(cli: Cli, architecture_file: Path, tmp_path: Path) -> None:
    words = ("profile", architecture_file, "-t", "ne-64", "--plots", tmp_path / "plots", "--top", "2")
    document = cli(*words, "--format", "json").document
    names = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert names == ["roofline.json", "roofline.png", "sram.json", "sram.png"]
    roofline = json.loads((tmp_path / "plots" / "roofline.json").read_text(encoding="utf-8"))
    assert [layer["label"] for layer in roofline["layers"]] == [row["label"] for row in document["subgraphs"]]
    assert len(roofline["worst"]) == 2


def test_a_trace_that_cannot_be_written_is_an_input_error(cli: Cli, architecture_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    ran = cli("profile", architecture_file, "-t", "ne-64", "--trace", tmp_path / "file" / "trace.json")
    assert ran.code == 2
    assert "cannot write" in ran.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nonsense", "-t", "ne-64"), "unknown model 'nonsense'"),
        (("baseline",), "no target given"),
        (("baseline", "-t", "ne-65"), "unknown target"),
        (("baseline", "-t", "ne-64", "-b", "latency=2"), "not a time with a unit"),
        (("baseline", "-t", "ne-64", "-b", "speed=2ms"), "unknown budget 'speed'"),
        (("baseline", "-t", "ne-64", "-b", "accuracy=97%"), "no accuracy is measured"),
        (("baseline", "-t", "ne-64", "--sram-limit", "4"), "not a size with a unit"),
        (("absent.onnx", "-t", "ne-64"), "cannot read absent.onnx"),
        (("absent.lanefit",), "cannot read absent.lanefit"),
        (("absent.onnx", "-t", "ne-64", "--input-shape", "1x3x"), "not a shape"),
        (("baseline", "-t", "ne-64", "--task", "digit"), "did you mean digits"),
        (("absent.onnx", "-t", "ne-64", "--predicted"), "only architectures"),
    ],
)
def test_bad_input_is_named(cli: Cli, words: tuple[str, ...], says: str) -> None:
    ran = cli("profile", *words)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err


def test_a_damaged_onnx_file_is_named(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\x00\x01nonsense")
    ran = cli("profile", path, "-t", "ne-64")
    assert ran.code == 2
    assert str(path) in ran.err


def test_the_target_may_come_from_the_environment(
    cli: Cli, architecture_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANEFIT_TARGET", "ne-64")
    assert "on ne-64" in cli("profile", architecture_file).out
    assert "on ne-256" in cli("profile", architecture_file, "-t", "ne-256").out


def test_prediction_uses_the_kept_estimator(
    cli: Cli, architecture_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANEFIT_CACHE", str(tmp_path))
    spec, family, task = load_spec("ne-64"), families.get("ibn-classifier"), find_task("digits")
    small = FitBudget(workloads=60, probes_per_kind=4, networks=3, trees=8)
    fit_estimator(spec, family, task, networks=8, budget=small).save(cached_estimator_path(spec, family, task))
    words = ("profile", architecture_file, "-t", "ne-64", "--predicted")
    document = cli(*words, "--format", "json").document
    parts = document["estimate"]["parts"]
    assert sum(part["latency_us"] for part in parts) == pytest.approx(document["estimate"]["latency_us"])
    assert cli(*words, "-b", "latency=1ns").code == 1
    assert cli(*words).out.startswith("PASS")


def test_labels_of_chains_are_shortened_at_words() -> None:
    assert short_label("s1_expand+s1_project") == "s1_{expand,project}"
    assert short_label("stem+head") == "stem+head"
    assert short_label("stem") == "stem"


def test_an_empty_budget_passes() -> None:
    assert str(Budget().check()) == "PASS  no budget given"


def test_prediction_in_another_precision_is_fitted_for_it(
    cli: Cli, architecture_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANEFIT_CACHE", str(tmp_path))
    spec, family, task = load_spec("ne-64"), families.get("ibn-classifier"), find_task("digits")
    small = FitBudget(workloads=80, probes_per_kind=4, networks=3, trees=8)
    fitted = fit_estimator(spec, family, task, precisions=("bf16",), networks=8, budget=small)
    fitted.save(cached_estimator_path(spec, family, task, ("bf16",)))
    words = ("profile", architecture_file, "-t", "ne-64", "--format", "json")
    bf16 = cli(*words, "--predicted", "--precision", "bf16").document["estimate"]
    compiled = {p: cli(*words, "--precision", p).document["totals"]["latency_us"] for p in ("int8", "bf16")}
    assert abs(bf16["latency_us"] / compiled["bf16"] - 1) < 0.25 < compiled["bf16"] / compiled["int8"] - 1
    assert cli(*words, "--predicted", "--precision-of", "nothing*=bf16").code == 2


def test_an_int8_estimator_calls_bf16_unknown() -> None:
    spec, family, task = load_spec("ne-64"), families.get("ibn-classifier"), find_task("digits")
    small = FitBudget(workloads=60, probes_per_kind=4, networks=3, trees=8)
    fitted = fit_estimator(spec, family, task, networks=8, budget=small)
    graph = sample_graphs(family, task, 1, 5)[0]
    assert fitted.estimate(with_precision(graph, Precision("bf16"))).extrapolated
