"""The whole benchmark of a set of pictures: curves, studies and the report, in steps that resume."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from . import allocation, calibration, paths, rate_distortion_plane, rd, store
from .cache import RowCache
from .codecs import Codec, Entry, Unavailable, catalogue
from .fingerprint import digest
from .pictures import Sample, find, set_name, spread
from .progress import Reporter
from .rows import RhoCodec
from .workers import Crew, alone, crew_of

QUICK = ("hvcodec-psnr-e1", "hvcodec-perceptual-e1", "jpeg-420", "webp-m6", "avif-s4", "jxl-e7")
SURFACE_CODEC = "hvcodec-all-equal-e1"  # takes any rate vector and needs no profile
SURFACE_PICTURES = 6


def bench(
    images: Iterable[str | Path],
    codecs: Sequence[str] | None = None,
    report: str | Path = "hvcodec-bench.html",
    *,
    keep: str | Path | None = None,
    reporter: Reporter | None = None,
    workers: int | None = 1,
) -> Path:
    """Measure pictures with hvcodec and other codecs and write the report page; returns its path.

    `images` are files and folders, `codecs` names of `catalogue()` or their beginnings (`hvcodec`, `avif`);
    by default a quick selection. Measurements are kept in the folder `keep`, by default the user's cache, and
    what was measured before is not measured again. Files are coded side by side by so many `workers`: None is one
    for each core as far as memory allows, and needs the `if __name__ == "__main__"` of multiprocessing.
    Raises FileNotFoundError or ValueError for places without pictures, ValueError for a codec not known,
    ImageError for a picture that cannot be read.
    """
    reporter = reporter or Reporter()
    places = [Path(image) for image in images]
    samples = find(places)
    chosen, unavailable = choose(codecs or ())
    with paths.kept_in(paths.user_cache() if keep is None else Path(keep)):
        # Loose pictures of one call are a set of their own: results of other pictures must not mix with them.
        folder = paths.results_dir() / set_digest(samples) / set_name(places)
        with crew_of(samples, workers) as crew:
            curves(samples, chosen, folder, reporter, crew)
        return page(samples, folder, Path(report), chosen, unavailable, reporter)


def set_digest(samples: Sequence[Sample]) -> str:
    """Names a set of pictures by its pixels; ImageError for one that cannot be read."""
    return digest("".join(sample.digest for sample in samples).encode())


def choose(names: Sequence[str]) -> tuple[list[Codec], list[Unavailable]]:
    """The codecs named (a name's beginning is enough) that can run here, and those that cannot.

    No name at all stands for a quick selection.
    """
    everything = catalogue()
    names = names or _quick(everything)
    for name in names:
        if not any(known.startswith(name) for known in everything):
            raise ValueError(f"no codec is called {name}; known: {', '.join(everything)}")
    entries = [entry for known, entry in everything.items() if any(known.startswith(n) for n in names)]
    return (
        [entry for entry in entries if not isinstance(entry, Unavailable)],
        [entry for entry in entries if isinstance(entry, Unavailable)],
    )


def _quick(everything: Mapping[str, Entry]) -> Sequence[str]:
    """The quick selection, with equal rates for a model that has no profile of it."""
    own = [everything[name] for name in QUICK if name.startswith("hvcodec")]
    return (SURFACE_CODEC, *QUICK) if all(isinstance(entry, Unavailable) for entry in own) else QUICK


def cache_of(folder: Path, name: str) -> RowCache:
    """The cached rows of one codec or study on one set of pictures."""
    return RowCache(paths.cache_dir() / folder.name / f"{name}.jsonl")


def curves(
    samples: Sequence[Sample], codecs: Sequence[Codec], folder: Path, reporter: Reporter, crew: Crew = alone
) -> None:
    """Measure the rate-distortion curves of codecs on a set of pictures into a result folder."""
    for codec in codecs:
        with reporter.bar(codec.title, len(samples) * len(codec.settings)) as tick:
            document = rd.run(codec, samples, folder, cache_of(folder, codec.name), tick, crew)
        for failure in document["failures"]:
            reporter.say(f"{codec.title} failed on {failure['picture']}: {failure['error']}")


def surfaces(
    samples: Sequence[Sample],
    folder: Path,
    reporter: Reporter,
    n_pictures: int = SURFACE_PICTURES,
    crew: Crew = alone,
) -> None:
    """The allocation study and the rate-distortion plane of the default model."""
    entry = catalogue()[SURFACE_CODEC]
    if isinstance(entry, Unavailable):
        reporter.say(f"Allocation: left out, {entry.reason}")
        return
    if not isinstance(entry, RhoCodec):
        raise TypeError(f"{entry.name} takes no rate vector")
    few = spread(samples, n_pictures)
    with reporter.bar("Allocation", len(few) * len(allocation.near(allocation.RHOS))) as tick:
        allocation.run(entry, few, folder, cache_of(folder, allocation.STUDY), tick, crew=crew)
    rate_distortion_plane.run(folder)


def agreement(samples: Sequence[Sample], folder: Path, reporter: Reporter) -> None:
    """Compare our JPEG and WebP with the published curves, once for each version of the libraries."""
    if folder.name != "kodak":
        return
    known = store.read_study(folder, calibration.STUDY)
    document = known if known and calibration.is_current(known) else calibration.run(samples, folder)
    differences = [abs(row["difference_db"]) for row in document["rows"] if row["difference_db"] is not None]
    reporter.say(f"Published JPEG and WebP curves: our points are within {max(differences):.2f} dB")


def page(
    samples: Sequence[Sample],
    folder: Path,
    target: Path,
    codecs: Sequence[Codec],
    unavailable: Sequence[Unavailable],
    reporter: Reporter,
) -> Path:
    """Write the report page of what has been measured."""
    from .report import write_report

    path = write_report(folder, samples, target, codecs, unavailable, reporter)
    reporter.say(f"Report: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return path
