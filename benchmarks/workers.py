"""Measure rows side by side: processes of one thread each, as many as there are cores.

A worker builds its codec anew, by its name.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing import get_context

from PIL import Image

from hvcodec import HVCodecError

from .cache import RowCache, key_of
from .codecs import Codec, Unavailable, catalogue
from .environment import cores, memory_bytes, one_thread
from .pictures import Sample
from .rows import Failure, Job, Row, measure, metrics_digest

PROCESS_BYTES, PIXEL_BYTES = 500_000_000, 300
"""What a worker needs before it has a picture, and the metrics for each of its pixels."""

MOST = 60  # Windows waits for no more processes than that

Measured = tuple[Job, Row | Failure]
Crew = Callable[[Codec, Sequence[Job]], Iterator[Measured]]
"""Measures jobs with a codec, in any order."""


def alone(codec: Codec, jobs: Sequence[Job]) -> Iterator[Measured]:
    """In this process."""
    with one_thread():
        for job in jobs:
            yield job, measure(codec, job)


def measure_all(
    codec: Codec, jobs: Sequence[Job], cache: RowCache, tick: Callable[[], None], crew: Crew
) -> dict[Job, Row | Failure]:
    """What the cache knows of these jobs, and the crew measures of the others; rows are cached at once."""
    judge = metrics_digest()
    keys = {job: key_of(job.sample.digest, codec.name, codec.version, job.setting, judge) for job in jobs}
    found: dict[Job, Row | Failure] = {}
    for job in jobs:
        if (row := cache.get(keys[job])) is not None:
            found[job] = row
            tick()
    for job, measured in crew(codec, [job for job in jobs if job not in found]):
        if not isinstance(measured, Failure):
            cache.put(keys[job], measured)
        found[job] = measured
        tick()
    return found


@contextmanager
def crew_of(samples: Sequence[Sample], n_workers: int | None = None) -> Iterator[Crew]:
    """So many processes, by default one for each core as far as memory allows; one is this process."""
    n_workers = _most(samples) if n_workers is None else n_workers
    if n_workers == 1:
        yield alone
        return
    with ProcessPoolExecutor(n_workers, get_context("spawn"), _begin) as pool:  # processes start when needed

        def together(codec: Codec, jobs: Sequence[Job]) -> Iterator[Measured]:
            futures: dict[Future[Row | Failure], Job] = {}
            try:
                for job in jobs:
                    futures[pool.submit(_measure_by_name, codec.name, codec.version, job)] = job
                for done in as_completed(futures):
                    yield futures[done], done.result()
            except BrokenProcessPool as error:
                raise HVCodecError("a worker ended, perhaps for want of memory: try with one worker") from error
            finally:
                for future in futures:
                    future.cancel()

        yield together


def _most(samples: Sequence[Sample]) -> int:
    each = PROCESS_BYTES + PIXEL_BYTES * max(_pixels(sample) for sample in samples)
    memory = memory_bytes()
    return max(1, min(cores(), MOST, 1 if memory is None else memory * 2 // 3 // each))


def _pixels(sample: Sample) -> int:
    with Image.open(sample.path) as opened:
        return opened.width * opened.height


def _begin() -> None:
    import torch

    from hvcodec.memory import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker at once and silently


@lru_cache(maxsize=1)
def _codec(name: str, version: str) -> Codec:
    codec = catalogue()[name]
    if isinstance(codec, Unavailable) or codec.version != version:
        raise HVCodecError(f"{codec.title} changed while it was measured: start again")
    return codec


def _measure_by_name(name: str, version: str, job: Job) -> Row | Failure:
    return measure(_codec(name, version), job)
