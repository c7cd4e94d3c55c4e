"""Keeps BLAS to one thread while many small matrices are multiplied."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext


def one_blas_thread() -> AbstractContextManager[object]:
    """Limits BLAS to one thread, process-wide, until the context ends.

    Waiting threads of a multiplication spin: with more threads than idle cores, small products take tens
    of times longer. Without `threadpoolctl` the context does nothing; set OPENBLAS_NUM_THREADS=1 instead.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:
        return nullcontext()
    return threadpool_limits(1, user_api="blas")
