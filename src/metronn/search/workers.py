"""Running one function on many requests: in processes of this machine, or on a Dask cluster.

Results come as they are ready; what they are does not depend on how many workers there are. Every worker computes with
one thread, so that sums are added in the same order everywhere.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import get_context
from typing import Any, Protocol

from metronn.errors import MetronnError, ModelError, ToolError

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
Work = Callable[[Any], Any]


class Workers(Protocol):
    """Something that does work on many requests."""

    def run(self, requests: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Give (index of the request, result) as results are ready. Errors of the work are raised here."""
        ...


class Inline:
    """The work done here, one request after the other."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def run(self, requests: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Give the results in order."""
        return ((index, self._work(request)) for index, request in enumerate(requests))


MOST_JOBS = 4096
"""Worker processes at most: more than any machine has cores."""
_work: Work | None = None


def _start(work: Work) -> None:
    """Prepare a worker process; interruptions are the parent's business."""
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _work = work


def _done(request: Any) -> Any:  # noqa: ANN401 - requests and results are the caller's
    assert _work is not None
    return _work(request)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let processes that start meanwhile compute with one thread each."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class Processes:
    """Worker processes of this machine, each with its own copy of the work."""

    def __init__(self, work: Work, count: int) -> None:
        self._pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_start, initargs=(work,))

    def run(self, requests: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Give results as they are ready. Raises ToolError when a worker dies."""
        try:
            with one_thread():
                waiting = {self._pool.submit(_done, request): index for index, request in enumerate(requests)}
            yield from _collected(waiting)
        except BrokenProcessPool:
            raise ToolError(
                "a worker process ended, most likely for lack of memory.\n"
                "  Use fewer with --jobs; what was found so far is in the journal."
            ) from None

    def close(self) -> None:
        """End the workers; what they have not begun is dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _collected(waiting: Mapping[Future[Any], int]) -> Iterator[tuple[int, Any]]:
    try:
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    finally:
        for future in waiting:
            future.cancel()


class DaskCluster:
    """The workers of a Dask cluster. They need the same version of metronn, and the file of a metric of one's own."""

    def __init__(self, work: Work, address: str) -> None:
        """Connect and send the work. Raises ToolError without the package or the cluster."""
        try:
            distributed: Any = import_module("distributed")
        except ImportError:
            raise ToolError("--dask: dask.distributed is not installed (pip install 'metronn[dask]')") from None
        self._distributed = distributed
        try:
            self._client = distributed.Client(address, timeout=CONNECT_SECONDS)
        except (OSError, TimeoutError, ValueError) as error:
            why = str(error) or type(error).__name__
            raise ToolError(f"--dask {address}: no scheduler answers there: {why}") from None
        if not self._client.scheduler_info(n_workers=-1)["workers"]:
            self._client.close()
            raise ToolError(f"--dask {address}: the cluster has no workers; start some with `dask worker {address}`")
        self._work = self._client.scatter(work, broadcast=True)

    def run(self, requests: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Give results as they are ready. Raises ToolError when workers die or lack a package."""
        futures = [self._client.submit(_called, self._work, request, pure=False) for request in requests]
        waiting = {future: index for index, future in enumerate(futures)}
        try:
            for future in self._distributed.as_completed(futures):
                yield waiting[future], future.result()
        except MetronnError:
            raise
        except (self._distributed.KilledWorker, ImportError, OSError, TimeoutError) as error:
            raise ToolError(f"--dask: the cluster failed: {type(error).__name__}: {error}") from None
        finally:
            self._client.cancel(futures)

    def close(self) -> None:
        """Leave the cluster."""
        self._client.close()


CONNECT_SECONDS = 10


def _called(work: Work, request: Any) -> Any:  # noqa: ANN401 - requests and results are the caller's
    return work(request)


@contextmanager
def workers(work: Work, *, jobs: int | None, dask: str | None) -> Iterator[Workers]:
    """Give workers: a cluster where there is an address, else processes, by default one for each core."""
    if dask is not None and jobs is not None:
        raise ModelError("--jobs and --dask: a cluster has its own workers; give one of the two")
    if jobs is not None and not 1 <= jobs <= MOST_JOBS:
        raise ModelError(f"--jobs: found {jobs}, allowed are 1 to {MOST_JOBS}")
    some = DaskCluster(work, dask) if dask is not None else Processes(work, jobs or cores())
    try:
        yield some
    finally:
        some.close()


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
