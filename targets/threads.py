"""Keeps BLAS to one thread while many small matrices are multiplied."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


def one_blas_thread() -> AbstractContextManager[object]:
    """Limits BLAS to one thread, process-wide, until the context ends.

    Waiting threads of a multiplication spin: with more threads than idle cores, small products take tens
    of times longer. Without `threadpoolctl` the context does nothing; set OPENBLAS_NUM_THREADS=1 instead.
    """
    controller = blas_controller()
    return nullcontext() if controller is None else controller.limit(limits=1, user_api="blas")


@cache
def blas_controller() -> ThreadpoolController | None:
    """Finding the BLAS libraries of a process takes a millisecond, longer than a small program runs."""
    try:
        from threadpoolctl import ThreadpoolController
    except ModuleNotFoundError:
        return None
    return ThreadpoolController()
