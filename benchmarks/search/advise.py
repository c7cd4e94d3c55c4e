"""Advice on an ONNX model: what each rule is estimated to bring, against the changed model compiled in earnest.

Estimated: one scale for each weight, from noise. Compiled: the changed model is written to a file, read back, quantised
with a scale for each channel and compiled, as `lanefit export` does it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from lanefit.export.onnx_export import simplify, to_onnx
from lanefit.export.onnx_model import load_model, model_bytes
from lanefit.nas.advice.advise import Suggestion, advise
from lanefit.nas.advice.judges import Costing, EngineJudge
from lanefit.nas.advice.subjects import ModelSubject
from lanefit.targets.spec import load_spec

sys.path.insert(0, str(Path(__file__).parents[1]))
from zoo.mobile import mobilenet_v2_224

from common import finish, parser


def main() -> None:
    found = parser(__doc__, seed=None)
    found.add_argument("--target", default="ne-256", help="engine (default: %(default)s)")
    found.add_argument("--model", type=Path, metavar="FILE.onnx", help="float model (default: MobileNetV2-1.0-224)")
    found.add_argument("--keep-capacity", action="store_true", help="leave out rules that make the network smaller")
    options = found.parse_args()
    judge = EngineJudge(load_spec(options.target))
    model = load_model(options.model) if options.model else to_onnx(mobilenet_v2_224().eval(), (1, 3, 224, 224))
    subject = ModelSubject(simplify(model))
    advice = advise(subject, judge, keep_capacity=options.keep_capacity)
    before = compiled(subject, judge)
    print(f"{'rule':28}{'places':>8}{'estimated us':>14}{'compiled us':>13}{'error':>8}{'gain':>8}")
    rules = {item.rule: row(item, judge, before) for item in advice.alone}
    print("together, one after the other")
    steps = [{"rule": item.rule, **row(item, judge, before)} for item in advice.together]
    last = float(steps[-1]["compiled"]) if steps else before.latency_us
    gain = 1 - last / before.latency_us
    print(f"{before.latency_us:.1f} us to {last:.1f} us compiled: {gain:.1%} less")
    figures = {
        "target": options.target, "before_us": before.latency_us, "rules": rules, "together": steps,
        "together_us": last, "latency_reduction": gain, "refused": advice.refused,
    }  # fmt: skip
    finish(options.json, figures)


def row(item: Suggestion[ModelSubject], judge: EngineJudge, before: Costing) -> dict[str, float]:
    """Latencies in microseconds after one rule, and their relative difference."""
    real = compiled(item.subject, judge).latency_us
    error = item.after.latency_us / real - 1
    gain = 1 - real / before.latency_us
    print(f"{item.rule:28}{len(item.sites):8}{item.after.latency_us:14.1f}{real:13.1f}{error:8.2%}{gain:8.1%}")
    return {"estimated": item.after.latency_us, "compiled": real, "error": error, "gain": gain}


def compiled(subject: ModelSubject, judge: EngineJudge) -> Costing:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "changed.onnx"
        path.write_bytes(model_bytes(subject.model))
        return judge.compiled(load_model(path))


if __name__ == "__main__":
    main()
