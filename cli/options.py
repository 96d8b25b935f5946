"""Options that commands share, bundled into objects: what to code with, and how much to spend."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hvcodec import catalog

from .failures import UsageFailure

if TYPE_CHECKING:
    from hvcodec import Codec
    from hvcodec.rate import Target

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def usage(call: Callable[[], T]) -> T:
    """Call something that raises ValueError for what the user asked; that is a wrong use, not a defect."""
    try:
        return call()
    except ValueError as err:
        raise UsageFailure(str(err)) from err


class Number(click.FloatRange):
    """A number within a range; "nan" is none, though it lies outside of no range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read a number."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


# --- what to code with --------------------------------------------------------------------------------------


MOST_THREADS = max(64, os.cpu_count() or 1)
"""More help nobody, and from some number on torch crashes."""

threads_option = click.option(
    "--threads", type=click.IntRange(1, MOST_THREADS), metavar="N", help="CPU threads to use."
)


@dataclass(frozen=True)
class Engine:
    """The model, and the machine it runs on."""

    model: str | None
    device: Any
    dtype: Any
    threads: int | None

    def codec(self, profile: str | None = None) -> Codec:
        """The codec of the model that was asked for, or of the one that a rate profile belongs to."""
        from hvcodec import Codec

        self._set_threads()
        return usage(lambda: Codec(self.model or catalog.find_for(profile), self.device, self.dtype))

    def codec_for(self, data: bytes, *, partial: bool, max_pixels: int) -> Codec:
        """The codec for a compressed file: of the model that the file names, unless one was asked for."""
        from hvcodec import api

        self._set_threads()
        return usage(
            lambda: api.codec_for(data, self.model, self.device, self.dtype, partial=partial, max_pixels=max_pixels)
        )

    def _set_threads(self) -> None:
        if self.threads is not None:
            import torch

            torch.set_num_threads(self.threads)


def engine_options(model_help: str) -> Callable[[F], F]:
    """Add --model, --device, --dtype and --threads to a command, which gets them as `engine`."""

    def decorate(command: F) -> F:
        @click.option("--model", metavar="NAME|PATH", help=model_help)
        @click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
        @click.option(
            "--dtype",
            type=click.Choice(["float32", "bfloat16"]),
            default="float32",
            show_default=True,
            help="bfloat16 is quicker on some machines and a little less exact.",
        )
        @threads_option
        @functools.wraps(command)
        def wrapper(*args: Any, model: Any, device: Any, dtype: Any, threads: Any, **kwargs: Any) -> Any:
            return command(*args, engine=Engine(model, device, dtype, threads), **kwargs)

        return wrapper  # type: ignore[return-value]

    return decorate


# --- how much to spend --------------------------------------------------------------------------------------


def _read_rho(_: click.Context, __: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Read a rate vector such as 40,36,30,24,20."""
    try:
        return None if value is None else tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of whole numbers such as 40,36,30,24,20") from None


# Option: class of hvcodec.rate, type, and what the help says.
TARGETS = {
    "size": ("Bytes", str, "BYTES", "So many bytes, or up to 3 % less: 50000, 50k, 1.5M, 50KiB."),
    "bpp": ("Bpp", float, "X", "So many bits per pixel, or up to 3 % less."),
    "psnr": ("Psnr", float, "DB", "This PSNR, or up to 0.1 dB more."),
    "ms_ssim": ("MsSsim", float, "X", "This MS-SSIM (0 to 1), or a little more."),
    "ssimulacra2": ("Ssimulacra2", float, "SCORE", "This SSIMULACRA2 score, or up to a point more."),
}
_EXCLUSIVE = "--quality, --rho, --size, --bpp, --psnr, --ms-ssim and --ssimulacra2 exclude each other: give one of them"


@dataclass(frozen=True)
class Spend:
    """How much to spend on a picture: a quality, a target, or a rate vector."""

    quality: float | None
    rate_profile: str | None
    rho: tuple[int, ...] | None
    target: tuple[str, Any] | None  # the option and its value

    def __post_init__(self) -> None:
        chosen = [self.quality, self.rho, self.target]
        if sum(choice is not None for choice in chosen) > 1:
            raise UsageFailure(_EXCLUSIVE)
        if self.rho is not None and self.rate_profile is not None:
            raise UsageFailure("--rho sets every rate by hand, so --rate-profile has no say: leave one out")

    def settings(self, codec: Codec) -> dict[str, Any]:
        """The keywords for Codec.compress, checked against what the model has."""
        from hvcodec import rate

        if self.rho is not None:
            return {"rho": usage(lambda: rate.check(self.rho or (), codec.n_groups))}
        profile = usage(lambda: codec.profile(self.rate_profile)).name
        if self.target is not None:
            return {"profile": profile, "target": usage(self._target)}
        return {"profile": profile, "quality": 50.0 if self.quality is None else self.quality}

    def _target(self) -> Target:
        from hvcodec import rate

        assert self.target is not None
        option, value = self.target
        if option == "size":
            return rate.parse_size(value)
        target: Target = getattr(rate, TARGETS[option][0])(value)
        return target


_RATE_OPTIONS = (
    click.option("--quality", type=Number(0, 100), metavar="Q", help="Along the rate profile.  [default: 50]"),
    click.option("--rate-profile", metavar="NAME", help="What the bits are for: see hvcodec profiles."),
    *(
        click.option(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)
        for name, (_, kind, metavar, text) in TARGETS.items()
    ),
    click.option("--rho", callback=_read_rho, metavar="R,R,...", help="The rate of each stride group by hand: 0..63."),
)


def rate_options(command: F) -> F:
    """Add --quality, --rate-profile, the targets and --rho to a command, which gets them as `spend`."""

    @functools.wraps(command)
    def wrapper(*args: Any, quality: Any, rate_profile: Any, rho: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in TARGETS}
        targets = [(name, value) for name, value in given.items() if value is not None]
        if len(targets) > 1:
            raise UsageFailure(_EXCLUSIVE)
        spend = Spend(quality, rate_profile, rho, targets[0] if targets else None)
        return command(*args, spend=spend, **kwargs)

    for option in reversed(_RATE_OPTIONS):
        wrapper = option(wrapper)
    return wrapper  # type: ignore[return-value]
