"""Rate-distortion curves from real files (rows.py): one result file for each codec.

Averages are over the pictures at equal setting: the mean of bits per pixel, and the mean of each metric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import store
from .cache import RowCache
from .codecs import Codec
from .environment import environment
from .pictures import Sample
from .rows import Failure, Job, Row, mean_row
from .workers import Crew, alone, measure_all

Tick = Callable[[], None]


def run(
    codec: Codec,
    samples: Sequence[Sample],
    folder: Path,
    cache: RowCache,
    tick: Tick = lambda: None,
    crew: Crew = alone,
) -> dict[str, Any]:
    """Measure a codec at all its settings on all pictures, write its result file and return its contents.

    Rows that the cache knows are not measured again. A picture that the codec fails on is written down under
    `failures`, and its setting has no average; the run goes on.
    """
    jobs = [Job(sample, setting) for sample in samples for setting in codec.settings]
    n_known = len(cache)
    found = measure_all(codec, jobs, cache, tick, crew)
    rows, failures = [], []
    for job in jobs:
        row, named = found[job], {"picture": job.sample.name, "setting": job.setting}
        if isinstance(row, Failure):
            failures.append({**named, "error": row.error})
        else:
            rows.append({**named, **row})
    path = folder / f"{codec.name}.json"
    if len(cache) == n_known and not failures and path.is_file() and (known := store.read(path))["rows"] == rows:
        return known  # keeps the environment that the rows were measured in
    document = _document(codec, samples, rows, failures)
    store.write(path, document)
    return document


def _document(codec: Codec, samples: Sequence[Sample], rows: list[Row], failures: list[Row]) -> dict[str, Any]:
    return {
        "codec": codec.name,
        "title": codec.title,
        "version": codec.version,
        "set": [sample.name for sample in samples],
        "environment": environment(),
        "settings": list(codec.settings),
        "averages": averages(rows, codec.settings, len(samples)),
        "failures": failures,
        "rows": rows,
    }


def averages(rows: Sequence[Row], settings: Sequence[float], n_pictures: int) -> list[Row]:
    """The mean row of every setting that all pictures have; a metric that one of them lacks is None."""
    means: list[Row] = []
    for setting in settings:
        at_setting = [row for row in rows if row["setting"] == setting]
        if len(at_setting) == n_pictures:
            means.append({"setting": setting, **mean_row(at_setting)})
    return means
