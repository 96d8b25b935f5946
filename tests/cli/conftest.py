"""What the tests of the command line share: an empty folder to work in, a picture, a way to call hvcodec."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calling import Hvcodec, Process
from click.testing import CliRunner, Result
from hvcodec_cli.main import cli

from hvcodec import image
from hvcodec.picture import Picture


@pytest.fixture(scope="session")
def picture() -> Picture:
    """A small picture with slopes, an edge and some noise."""
    rows, columns = np.mgrid[:40, :56]
    pixels = np.stack((columns * 4, rows * 5, rows + columns), axis=-1)
    pixels[10:30, 20:40] += 60
    noise = np.random.default_rng(0).normal(0, 5, pixels.shape)
    return Picture(np.clip(pixels + noise, 0, 255).astype(np.uint8))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> Path:
    """An empty folder, which is also the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def photo(folder: Path, picture: Picture) -> Path:
    """The file photo.png in the current folder."""
    image.write(picture, folder / "photo.png")
    return folder / "photo.png"


@pytest.fixture
def hvcodec() -> Hvcodec:
    """Calls the command line inside this process."""

    def call(*args: object, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(cli, [str(arg) for arg in args], input=stdin, prog_name="hvcodec")

    return call


@pytest.fixture
def packed(photo: Path, hvcodec: Hvcodec) -> Path:
    """The file photo.hvc; its picture is put away, so that the name is free."""
    result = hvcodec("compress", "photo.png", "--digests")
    assert result.exit_code == 0, result.stderr
    photo.rename("original.png")
    return photo.with_suffix(".hvc")


@pytest.fixture
def process() -> Process:
    """Calls the command line as a program of its own."""

    def call(*args: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "hvcodec_cli.main", *map(str, args)]
        return subprocess.run(command, check=False, timeout=120, **{"capture_output": True, **options})

    return call
