"""Search with real training: every strategy gets the same processor minutes, for everything it does.

    python benchmarks/search/trained.py --dataset DIR --target ne-256 --minutes 60 --json F

Family `ibn-classifier`, at the resolution that is nearest to the data's; the budget is half of the compiled latency of
MobileNetV2 0.5. A search gets half of the minutes (screen, supernet and trainings counted in); the other half, and what
the search left of its own, goes to one long training of its winner, from the weights it has. So `zero-shot`, which
trains nothing, trains its winner longest. How many epochs the short trainings have follows from a pilot that is
timed once for all rows. Candidates are chosen on validation images; test images are looked at in the last step only.
The latency estimator and the curated space are no part of the minutes: they belong to the target, all rows share them,
and the table says what they took.

Every strategy and seed is a process of its own and writes its row into `--work` as it ends; the same command goes on
where it was stopped.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import torch
from trained_row import estimator_for, kept, kept_setting, pilot, run_row
from zero_shot import find_dataset

from lanefit.common.errors import ConfigError
from lanefit.common.files import read_json
from lanefit.nas.strategies import STRATEGIES
from lanefit.targets.spec import load_spec

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import finish, parser

ORDER = ("random", "zero-shot", "multi-shot", "one-shot", "hybrid")


def _row(work: Path, dataset: Path, strategy: str, seed: int, threads: int) -> dict[str, Any]:
    """One row, in a process of its own."""
    torch.set_num_threads(threads)
    task = find_dataset(dataset)
    setting = kept_setting(work / "setting.json", lambda: sys.exit("the pilot has not run"))
    directory = work / f"{strategy}-{seed}"
    return kept(directory / "row.json", lambda: run_row(directory, task, setting, strategy, seed))


def _pilot(work: Path, dataset: Path, target: str, minutes: float, trials: int, device: str, threads: int) -> None:
    torch.set_num_threads(threads)
    task = find_dataset(dataset)
    estimator_for(load_spec(target), task)
    setting = kept_setting(work / "setting.json", lambda: pilot(task, target, 60 * minutes, trials, device))
    asked, stored = (target, 60 * minutes, trials), (setting.target, setting.seconds, setting.trials)
    if asked != stored:
        raise ConfigError(f"{work.name} holds rows for {stored}, not {asked}", where="--work", hint="choose another")


def all_rows(options: Any) -> list[dict[str, Any]]:
    """Every row, in the order of strategies and seeds, however many run at once."""
    jobs = [(strategy, seed) for seed in range(options.seed, options.seed + options.seeds) for strategy in options.of]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=spawn, max_tasks_per_child=1) as pool:
        first = (options.work, options.dataset, options.target, options.minutes, options.trials, options.device)
        pool.submit(_pilot, *first, options.threads).result()
        found = [pool.submit(_row, options.work, options.dataset, *job, options.threads) for job in jobs]
        for (strategy, seed), row in zip(jobs, found, strict=True):
            print(f"{strategy}, seed {seed}: {row.result()['seconds']:.0f} s", file=sys.stderr, flush=True)
        return [row.result() for row in found]


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """By strategy: mean and standard deviation of the test accuracy over seeds, latencies and seconds."""
    found: dict[str, dict[str, Any]] = {}
    for strategy in dict.fromkeys(row["strategy"] for row in rows):
        mine = [row for row in rows if row["strategy"] == strategy]
        good = [row for row in mine if "failed" not in row]
        found[strategy] = {"seeds": len(mine), "failed": len(mine) - len(good)}
        if good:
            accuracies = [row["accuracy_test"] for row in good]
            found[strategy] |= {"accuracy_test": fmean(accuracies), "accuracy_test_sd": pstdev(accuracies)}
            names = ("predicted_us", "compiled_us", "trainings", "search_seconds", "final_seconds", "seconds")
            found[strategy] |= {name: fmean(row[name] for row in good) for name in names}
            found[strategy]["violations"] = sum(row["compiled_us"] > row["budget_us"] for row in good)
    return found


def show(setting: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]) -> None:
    print(f"budget {setting['budget_us']:.0f} us, half of the baseline's {setting['baseline_us']:.0f} us; "
          f"{setting['seconds']:.0f} s a row; curation took {setting['curation_seconds']:.0f} s, once")  # fmt: skip
    names = ("predicted", "compiled", "trained", "search", "in all")
    print(f"{'':11}   test  s.d. {' '.join(f'{name:>9}' for name in names)}  over")
    for strategy, row in found.items():
        if "accuracy_test" not in row:
            print(f"{strategy:11} nothing inside the budget")
            continue
        head = f"{strategy:11} {row['accuracy_test']:6.1%} {100 * row['accuracy_test_sd']:5.1f}"
        times = f"{row['trainings']:9.1f} {row['search_seconds']:8.0f}s {row['seconds']:8.0f}s"
        print(f"{head} {row['predicted_us']:7.0f}us {row['compiled_us']:7.0f}us {times} {row['violations']:5d}")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--dataset", type=Path, required=True, metavar="DIR", help="cifar10_jpeg, rooms, or classes")
    options.add_argument("--target", default="ne-256", help="engine preset or file (default: %(default)s)")
    options.add_argument("--minutes", type=float, default=60, help="processor minutes a row (default: %(default)s)")
    options.add_argument("--seeds", type=int, default=2, metavar="N", help="default: %(default)s")
    options.add_argument("--strategies", default=",".join(ORDER), metavar="A,B", help="default: %(default)s")
    options.add_argument("--trials", type=int, default=200, help="candidates of a search (default: %(default)s)")
    options.add_argument("--work", type=Path, default=Path("trained-work"), metavar="DIR", help="rows and searches")
    options.add_argument("--device", default="cpu", help="cpu, cuda or auto (default: %(default)s)")
    options.add_argument("--jobs", type=int, default=1, metavar="N", help="rows at once (default: %(default)s)")
    options.add_argument("--threads", type=int, default=1, metavar="N", help="of each row (default: %(default)s)")
    given = options.parse_args()
    given.of = [STRATEGIES.get(name) and name for name in given.strategies.split(",")]  # unknown names are refused
    if given.minutes <= 0 or min(given.seeds, given.jobs, given.threads) < 1:
        options.error("minutes, seeds, jobs and threads must be positive")
    os.environ.setdefault("OMP_NUM_THREADS", str(given.threads))
    rows = all_rows(given)
    setting, found = read_json(given.work / "setting.json"), summary(rows)
    show(setting, found)
    finish(given.json, {"setting": setting, "strategies": found, "rows": rows}, seed=given.seed)


if __name__ == "__main__":
    main()
