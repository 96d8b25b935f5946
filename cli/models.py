"""hvcodec models and hvcodec profiles: what is installed, read from the heads of the files without torch."""

from __future__ import annotations

import json
import math

import click

from hvcodec import ModelError, catalog
from hvcodec.profiles import Profile
from hvcodec.targets import METRICS

from .failures import debug_option

_TITLES = {"log_bpp": "bpp", "psnr_db": "PSNR dB", "ms_ssim_db": "MS-SSIM dB", "ssimulacra2": "SSIMULACRA2"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per model.")
@debug_option
def models(as_json: bool) -> None:
    """List the models that are installed, with ids and profiles.

    They are looked for in the package and in the folders of the environment variable HVCODEC_MODELS.
    """
    found = catalog.installed()
    if not found and not as_json:
        click.echo(f"no model is installed: name a folder with one in {catalog.SEARCH_PATH_VARIABLE}")
    for entry in found:
        try:
            names = catalog.profile_names(entry)
        except ModelError as err:
            names = []
            _pass_over(entry, err)
        fields = {
            "name": entry.name,
            "id": entry.id.hex(),
            "profiles": names,
            "strides": list(entry.strides),
            "n_bytes": entry.path.stat().st_size,
            "path": str(entry.path),
        }
        if as_json:
            click.echo(json.dumps(fields))
        else:
            size = fields["n_bytes"]
            click.echo(f"{entry.name:<16} {entry.id.hex()}  {size:>12,} bytes  {', '.join(names)}")
            click.echo(f"{'':<16} {entry.path}")
    for path, reason in catalog.passed_over().items():
        click.echo(f"passed over {path}: {reason}", err=True)


@click.command()
@click.option("--model", metavar="NAME|PATH", help="Those of one model only; see hvcodec models.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per profile.")
@debug_option
def profiles(model: str | None, as_json: bool) -> None:
    """List the rate profiles: what each is for and what it measured.

    A profile belongs to a model, which compress takes with it. The figures are means over the pictures that a
    profile was measured with.
    """
    entries = catalog.installed() if model is None else [catalog.read_entry(catalog.find(model))]
    for entry in entries:
        try:
            known = catalog.load_profiles(entry.path, entry.n_groups)
        except ModelError as err:
            if model is not None:
                raise
            _pass_over(entry, err)
            continue
        for profile in known.values():
            if as_json:
                click.echo(json.dumps({"model": entry.name, **profile.to_dict()}))
            else:
                title = f"{profile.name} (model {entry.name}): {profile.purpose}"
                click.echo("\n".join([title, *_table(profile), ""]))


def _pass_over(entry: catalog.Entry, err: ModelError) -> None:
    """Tell of profiles that cannot be read; those of the other models can."""
    click.echo(f"passed over {catalog.profiles_file(entry.path)}: {err}", err=True)


def _table(profile: Profile) -> list[str]:
    """Quality, rate vector and what was measured there."""
    head = f"  {'quality':>8}  {'rho':<20}"
    if not profile.measured:
        lines = [f"  {position:>8}  {_rho(profile, position):<20}" for position in (0, 25, 50, 75, 100)]
        return [head, *lines]
    lines = [head + "".join(f"{_TITLES[metric]:>13}" for metric in METRICS)]
    for row in profile.measured:
        values = [row.effect(metric).value for metric in METRICS]
        values[list(METRICS).index("log_bpp")] = math.exp(row.log_bpp.value)
        cells = "".join(f"{value:>13.3f}" for value in values)
        lines.append(f"  {row.position:>8g}  {_rho(profile, row.position):<20}{cells}")
    return lines


def _rho(profile: Profile, position: float) -> str:
    return ",".join(map(str, profile.rho(position)))
