"""The examples in README.md and docs/ run, and every option is described.

A fenced `console` or `python` block is run if the line before it is `<!-- run -->`, or `<!-- run exit=4 -->`
where its last command ends with that code. The blocks of a document run in order, in a folder with photo.png
and photos/, with a tiny model as the default. Lines that do not begin with `$ ` show output, which depends on
the model and is not compared.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import pytest
from click.testing import CliRunner
from hvcodec_cli.main import COMMANDS, EXIT_CODES, cli

from hvcodec import catalog, image
from hvcodec.picture import Picture
from hvcodec.profiles import uniform

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if path.is_file()]
BLOCK = re.compile(r"^<!-- run(?: exit=(\d+))? -->\n```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """An example: its language, its lines, and the exit code of its last command."""

    language: str
    text: str
    exit_code: int

    @property
    def commands(self) -> list[str]:
        """The lines after `$ `, with those that a backslash continues."""
        joined = self.text.replace("\\\n", " ")
        return [line[2:] for line in joined.splitlines() if line.startswith("$ ")]


def blocks(document: Path) -> list[Block]:
    found = BLOCK.findall(document.read_text("utf-8"))
    return [Block(language, text, int(code or 0)) for code, language, text in found]


def run_command(command: str) -> tuple[int, str]:
    """Exit code and messages; hvcodec alone is called inside this process, because torch is slow to load."""
    words = list(shlex.shlex(command, posix=True, punctuation_chars=True))
    if words[0] == "hvcodec" and not set(words) & {"|", ">", "<", "&&", ";", "||"}:
        result = CliRunner().invoke(cli, shlex.split(command)[1:], prog_name="hvcodec")
        return result.exit_code, result.output
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    shell = subprocess.run(
        ["sh", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PATH": path},
    )
    return shell.returncode, shell.stderr


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that compresses, with the profile that the examples name."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    shutil.copy(ROOT / "tests" / "golden" / "models" / path.name, path)
    catalog.store_profile(catalog.profiles_file(path), replace(uniform(5), name="perceptual"))
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Path) -> Path:
    """What the examples find: photo.png, two pictures in photos/, and a model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(catalog.DEFAULT_VARIABLE, str(model))
    rows, columns = np.mgrid[:320, :480]
    slopes = np.stack((columns * 0.5, rows * 0.7, (rows + columns) / 4), axis=-1)
    noise = np.random.default_rng(0).normal(0, 4, slopes.shape)
    picture = Picture(np.clip(slopes + noise, 0, 255).astype(np.uint8))
    (tmp_path / "photos").mkdir()
    for name in ("photo.png", "photos/one.png", "photos/two.jpg"):
        image.write(picture, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if blocks(d)], ids=lambda path: path.name)
def test_the_examples_run(document: Path, folder: Path) -> None:
    names: dict[str, Any] = {}
    for block in blocks(document):
        if block.language == "python":
            exec(compile(block.text, document.name, "exec"), names)
            continue
        assert block.commands, block.text
        for command in block.commands:
            code, told = run_command(command)
            expected = block.exit_code if command == block.commands[-1] else 0
            assert code == expected, f"{command}\n{told}"


def test_every_marked_block_is_understood() -> None:
    for document in DOCUMENTS:
        marks = re.findall(r"^<!-- run\b", document.read_text("utf-8"), re.MULTILINE)
        assert len(blocks(document)) == len(marks), document.name
    assert any(blocks(document) for document in DOCUMENTS)


@pytest.mark.parametrize("name", [name for name, lazy in COMMANDS.items() if lazy.is_present])
def test_every_option_is_described(name: str) -> None:
    described = "\n".join(document.read_text("utf-8") for document in DOCUMENTS)
    command = COMMANDS[name].load()
    commands = list(command.commands.values()) if isinstance(command, click.Group) else [command]
    options = {o for c in commands for p in c.params if isinstance(p, click.Option) for o in p.opts}
    assert {o for o in options if not re.search(rf"`{o}\b", described)} == set()
    assert f"hvcodec {name}" in described


def test_every_exit_code_is_described() -> None:
    text = (ROOT / "docs" / "cli.md").read_text("utf-8")
    table = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert table == {0, 1, 2, 130, 141, *EXIT_CODES.values()}
