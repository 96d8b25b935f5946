"""hvcodec profile: make rate profiles by real encodes of a folder of pictures, and measure those that exist."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hvcodec import catalog
from hvcodec.profiles import EQUAL_PROFILE, TRAINED_PROFILE

from .failures import UsageFailure
from .jobs import check_folder
from .options import Engine, Number, engine_options, usage
from .report import Reporter, reporting

if TYPE_CHECKING:
    from hvcodec_benchmarks.profile_trials import Trials

    from hvcodec.baseline import Tried
    from hvcodec.profile_search import Checked
    from hvcodec.profiles import Profile

F = TypeVar("F", bound=Callable[..., Any])

# What can be searched for: the name of the profile, what it is for, and the unit of its gains.
METRICS = {
    "psnr": ("psnr", "the best PSNR at every rate", "dB of PSNR"),
    "ms-ssim": ("ms-ssim", "the best MS-SSIM at every rate", "dB of MS-SSIM"),
    "ssimulacra2": ("perceptual", "the best SSIMULACRA2 at every rate: how pictures look", "points of SSIMULACRA2"),
    "preview": ("preview", "most of the picture in the first bytes of the file", "dB of previews"),
}
# How much less an error should count in busy surroundings, where a metric follows the eye.
MASKING = {"ms-ssim": 1.0, "ssimulacra2": 1.0}
# Where a search measures what steps of single groups do; between them that is interpolated.
STEPS_MEASURED_AT = (0.0, 25.0, 50.0, 75.0, 100.0)
POSITIONS = "0,12.5,25,37.5,50,62.5,75,87.5,100"


@dataclass(frozen=True)
class Study:
    """What is encoded with which model, and where the profile goes."""

    images: Path
    crop: int
    most: int
    out: Path | None
    engine: Engine

    @property
    def target(self) -> Path:
        """The file of profiles: the one beside the weights, if no other was named."""
        return self.out or catalog.profiles_file(self._weights)

    @property
    def n_groups(self) -> int:
        """How many values a rate vector of the model has."""
        return catalog.read_entry(self._weights).n_groups

    def profile(self, name: str) -> Profile:
        """A profile of the model, or of the file that was named."""
        known = catalog.load_profiles(self._weights, self.n_groups)
        known |= {profile.name: profile for profile in catalog.fitting_profiles(self.target, self.n_groups)}
        if name not in known:
            raise UsageFailure(f"there is no rate profile {name!r}; there are: {', '.join(known)}")
        return known[name]

    def check_target(self) -> None:
        """Refuse, before the long work, a file of profiles that is damaged, foreign, or that cannot be written."""
        catalog.fitting_profiles(self.target, self.n_groups)
        check_folder(self.target.absolute().parent, "name a file in another with --out")

    def check_levels(self) -> None:
        """Refuse a model that knows one level alone."""
        if catalog.is_of_one_level(catalog.read_entry(self._weights)):
            raise UsageFailure(
                f"this model was trained for one level, where its rate profile {TRAINED_PROFILE!r} codes: it knows no "
                "other rates that a profile could lead through"
            )

    def usual_masking(self, metric: str) -> float:
        """None where the model was trained for the eye: it knows better."""
        return 0.0 if "distortion" in catalog.read_metadata(self._weights) else MASKING.get(metric, 0.0)

    @contextmanager
    def trials(self, report: Reporter, label: str, n_vectors: int, **how: Any) -> Iterator[Trials]:
        """Real encodes of the pictures, at about so many rate vectors."""
        import torch
        from hvcodec_benchmarks import profile_trials

        pictures = usage(lambda: profile_trials.load_crops(self.images, self.crop, self.most))
        # Pictures beside each other use a processor better than threads within one.
        workers = self.engine.threads or torch.get_num_threads()
        codec = replace(self.engine, threads=1).codec()
        n_encodes = n_vectors * len(pictures)
        report.say(f"{label}: up to about {n_encodes:,} encodes ({n_vectors} rate vectors, {len(pictures)} pictures)")
        with report.bar(label, n_encodes) as tick:
            start = time.perf_counter()
            trials = profile_trials.Trials(
                codec,
                pictures,
                profile_trials.open_cache(codec),
                workers=workers if codec.device.type == "cpu" else 1,
                tick=tick,
                **how,
            )
            yield trials
            report.detail(f"{label}: {trials.encodes:,} encodes in {time.perf_counter() - start:.0f} s")

    @property
    def _weights(self) -> Path:
        return catalog.find(self.engine.model or "default")


def study_options(command: F) -> F:
    """Add --images, --crop, --max-images, --out and what codes to a command, which gets them as `study`."""

    @click.option(
        "--images",
        required=True,
        type=click.Path(exists=True, path_type=Path),
        metavar="DIR",
        help="Pictures to encode: not those that results are reported on.",
    )
    @click.option(
        "--max-images",
        type=click.IntRange(min=1),
        default=8,
        show_default=True,
        metavar="N",
        help="How many of them, evenly spread.",
    )
    @click.option(
        "--crop",
        type=click.IntRange(min=1),
        default=512,
        show_default=True,
        metavar="SIDE",
        help="The middle of each, so large.",
    )
    @click.option(
        "--out",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="The file of profiles.  [default: the one beside the weights]",
    )
    @engine_options("Name of a model or path of its weights; see hvcodec models.")
    @reporting
    @functools.wraps(command)
    def wrapper(*args: Any, images: Any, max_images: Any, crop: Any, out: Any, engine: Any, **kwargs: Any) -> Any:
        return command(*args, study=Study(images, crop, max_images, out, engine), **kwargs)

    return wrapper  # type: ignore[return-value]


def _read_positions(_: click.Context, __: click.Parameter, value: str) -> tuple[float, ...]:
    """Read positions such as 0,50,100."""
    try:
        positions = tuple(sorted({float(part) for part in value.split(",")}))
    except ValueError:
        positions = ()
    if len(positions) < 2 or not all(0 <= position <= 100 for position in positions):
        raise click.BadParameter(f"{value!r} is not a list of two or more numbers 0 to 100 such as 0,50,100")
    return positions


def _read_name(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value in ("", EQUAL_PROFILE, TRAINED_PROFILE):
        raise click.BadParameter(f"{value!r} cannot be the name of a profile that is searched for")
    return value


@click.group()
def profile() -> None:
    """Make rate profiles.

    `search` finds new ones, `calibrate` measures those that exist. A profile is a path through the rates of the
    stride groups; quality 0 to 100 walks along it.
    """


@profile.command()
@click.option("--metric", type=click.Choice(list(METRICS)), required=True, help="What the bytes are for.")
@click.option(
    "--name", callback=_read_name, help="Name of the profile.  [default: psnr, ms-ssim, perceptual or preview]"
)
@click.option(
    "--points",
    type=click.IntRange(1, 20),
    default=6,
    show_default=True,
    metavar="N",
    help="At how many rates to search.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    metavar="N",
    help="How often to improve at each of them.",
)
@click.option(
    "--masking",
    type=Number(0, 2),
    metavar="X",
    help="How much less errors count in busy surroundings.  [default: 1 for ms-ssim and ssimulacra2, unless the model "
    "was trained for the eye; else 0]",
)
@study_options
def search(
    metric: str,
    name: str | None,
    points: int,
    rounds: int,
    masking: float | None,
    study: Study,
    report: Reporter,
) -> None:
    """Search for the profile that is best in a metric.

    At several rates, the rates of the groups are moved towards what gives the most at equal bytes, by real
    encodes. A smooth path through the winners is stored with what it measured; where it gives less than
    equal rates of all groups, it goes back to those. Trials are kept on disk: a search that was stopped
    goes on where it was.
    """
    from hvcodec import profile_search
    from hvcodec.profiles import Profile, calibrate

    default_name, purpose, unit = METRICS[metric]
    study.check_target()
    study.check_levels()
    n_vectors = profile_search.usual_vectors(points, study.n_groups, rounds)
    n_vectors += len(STEPS_MEASURED_AT) * (1 + study.n_groups)
    masking = study.usual_masking(metric) if masking is None else masking
    how = {"masking": masking, "with_previews": metric == "preview"}
    with study.trials(report, f"Search for {metric}", n_vectors, **how) as trials:
        found = usage(
            lambda: profile_search.search(
                functools.partial(trials.outcome, metric),
                study.n_groups,
                points=points,
                rounds=rounds,
                tell=lambda winner: report.detail(_told(winner, unit)),
            )
        )
        made = Profile(name or default_name, purpose, found.path, masking=masking)
        made = replace(made, measured=calibrate(made, STEPS_MEASURED_AT, trials))
        places = [check.position for check in found.checks]
        made = replace(made, measured=profile_search.densified(made, places, trials))
    catalog.store_profile(study.target, made)
    for check in found.checks:
        report.say(f"quality {check.position:>5.1f}  {_told(check.tried, unit)}")
    report.say(f"{made.name} -> {study.target}")
    report.result(_fields(made.name, study, trials, checks=[_check_fields(check) for check in found.checks]))


@profile.command()
@click.argument("name")
@click.option(
    "--positions",
    callback=_read_positions,
    default=POSITIONS,
    show_default=True,
    metavar="Q,Q,...",
    help="Where to measure: each takes one rate vector, and one more for each group.",
)
@study_options
def calibrate(name: str, positions: Sequence[float], study: Study, report: Reporter) -> None:
    """Measure a profile, so that the search for a target begins near it.

    NAME is a profile of the model, also `equal`. What it gives at some positions, and what single steps of
    the groups add there, is stored with it.
    """
    from hvcodec.profiles import calibrate as measure

    study.check_target()
    known = study.profile(name)
    n_vectors = len(positions) * (1 + study.n_groups)
    with study.trials(report, f"Measure {name}", n_vectors, masking=known.masking) as trials:
        measured = replace(known, measured=measure(known, positions, trials))
    catalog.store_profile(study.target, measured)
    report.say(f"{name} -> {study.target}")
    report.result(_fields(name, study, trials, positions=list(positions)))


def _told(tried: Tried, unit: str) -> str:
    bpp = math.exp(tried.outcome.log_bpp)
    return f"{bpp:.3f} bpp  rho {','.join(map(str, tried.rho))}  {tried.gain:+.3f} {unit} over equal rates"


def _fields(name: str, study: Study, trials: Trials, **more: object) -> dict[str, object]:
    return {"profile": name, "output": str(study.target), "encodes": trials.encodes, **more}


def _check_fields(check: Checked) -> dict[str, object]:
    tried = check.tried
    gain = tried.gain if math.isfinite(tried.gain) else None
    bpp, value = math.exp(tried.outcome.log_bpp), tried.outcome.value
    return {"quality": check.position, "rho": list(tried.rho), "bpp": bpp, "value": value, "gain": gain}
