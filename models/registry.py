"""Families and tasks by name. Third parties add theirs by the entry points `lanefit.familys` and `lanefit.tasks`."""

from __future__ import annotations

from ..common.registry import Registry
from .family import Family
from .tasks import Task

families: Registry[Family] = Registry(
    "family",
    {
        "ibn-classifier": "lanefit.models.ibn_classifier:IBN_CLASSIFIER",
        "mnasnet": "lanefit.models.mnasnet:MNASNET",
        "nas-bench-201": "lanefit.models.nas_bench_201:NAS_BENCH_201",
    },
)

tasks: Registry[Task] = Registry(
    "task",
    {
        "digits": "lanefit.models.data_digits:DIGITS",
        "cifar10_jpeg": "lanefit.models.data_archives:CIFAR10_JPEG",
        "fashion_mnist": "lanefit.models.data_archives:FASHION_MNIST",
        "mnist": "lanefit.models.data_archives:MNIST",
        "rooms": "lanefit.models.data_archives:ROOMS",
    },
)


def find_task(name: str) -> Task:
    """The registered task, or for `folder:PATH` the images under PATH; an unknown name lists the known ones."""
    from .data_folder import folder_task

    return folder_task(name.removeprefix("folder:")) if name.startswith("folder:") else tasks.get(name)
