"""The hvcodec command itself: exit codes, help, commands that are loaded late, and --debug."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click
import pytest
import torch
from calling import Hvcodec
from click.testing import CliRunner
from hvcodec_cli import main
from hvcodec_cli.failures import sentence
from hvcodec_cli.main import COMMANDS, EXIT_CODES, Lazy, LazyGroup, exit_code
from hvcodec_cli.report import Reporter, to_json

import hvcodec.errors
from hvcodec.codec import Codec


def test_version_and_help(hvcodec: Hvcodec) -> None:
    assert hvcodec("--version").stdout == f"hvcodec {version('hvcodec')}\n"
    listed = hvcodec("-h").stdout
    for name, lazy in COMMANDS.items():
        assert (f"  {name} " in listed) == lazy.is_present
    assert hvcodec("nix").exit_code == 2


@pytest.mark.parametrize("name", [name for name, lazy in COMMANDS.items() if lazy.is_present])
def test_the_table_says_what_the_command_says(name: str, hvcodec: Hvcodec) -> None:
    command = COMMANDS[name].load()
    assert command.help is not None
    assert command.help.splitlines()[0] == COMMANDS[name].help
    assert hvcodec(name, "--help").exit_code == 0


# --- exit codes ---------------------------------------------------------------------------------------------

EXAMPLES: dict[str, hvcodec.errors.HVCodecError] = {
    "HVCodecError": hvcodec.HVCodecError("x"),
    "FormatError": hvcodec.FormatError("x"),
    "NotHVCError": hvcodec.NotHVCError("x"),
    "UnsupportedError": hvcodec.UnsupportedError("x", feature="y"),
    "TruncatedError": hvcodec.TruncatedError("x", layers_complete=1),
    "CorruptError": hvcodec.CorruptError("x"),
    "LimitError": hvcodec.LimitError("x", limit=1, asked=2),
    "DesyncError": hvcodec.DesyncError("x", layer=1),
    "ModelError": hvcodec.ModelError("x"),
    "ImageError": hvcodec.ImageError("x"),
    "TargetError": hvcodec.TargetError("x"),
    "ConfigError": hvcodec.ConfigError("x"),
}


def test_every_class_of_error_has_an_example() -> None:
    classes = [value for value in vars(hvcodec.errors).values() if isinstance(value, type)]
    assert {cls.__name__ for cls in classes} == set(EXAMPLES)
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_exit_codes(name: str, photo: Path, hvcodec: Hvcodec, monkeypatch: pytest.MonkeyPatch) -> None:
    error = EXAMPLES[name]
    expected = {"ImageError": 3, "DesyncError": 5, "ModelError": 6, "TargetError": 7, "ConfigError": 8}
    code = expected.get(name, 1 if name == "HVCodecError" else 4)

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Codec, "compress", fail)
    result = hvcodec("compress", "photo.png")
    assert (result.exit_code, result.stderr) == (code, "Error: photo.png: x\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("odd"), 1),
        (MemoryError(), 1),
        (OSError(5, "Input/output error"), 1),
        (PermissionError(13, "Permission denied", "a"), 2),
        (click.UsageError("x"), 2),
    ],
)
def test_exit_codes_of_other_errors(error: Exception, code: int) -> None:
    assert exit_code(error) == code


def test_the_unexpected_is_a_sentence_and_with_debug_a_traceback(
    photo: Path, hvcodec: Hvcodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr(Codec, "compress", fail)
    plain = hvcodec("compress", "photo.png")
    assert plain.exit_code == 1
    assert plain.stderr == (
        "Error: photo.png: unexpected RuntimeError (odd): run it with --debug and report what that shows\n"
    )
    for args in (["--debug", "compress", "photo.png"], ["compress", "photo.png", "--debug"]):
        result = hvcodec(*args)
        assert result.exit_code == 1
        assert "Traceback (most recent call last)" in result.stderr
        assert 'raise RuntimeError("odd")' in result.stderr


def test_memory_that_torch_lacks_is_told() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert sentence(caught.value) == sentence(MemoryError()) == "there is not enough memory for this"
    assert sentence(RuntimeError("odd")).startswith("unexpected RuntimeError (odd)")


def test_a_closed_pipe_ends_quietly(photo: Path, hvcodec: Hvcodec, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("hvcodec_cli.jobs.Job.write", closed)
    result = hvcodec("compress", "photo.png", "-o", "-")
    assert (result.exit_code, result.output) == (141, "")


# --- commands that are loaded late --------------------------------------------------------------------------


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[click.Group]:
    """A group of commands that lack something when they are imported, when they run, or altogether."""
    source = "import click\n{}@click.command()\ndef command():\n    'Late.'\n    import click\n{}"
    (tmp_path / "late_early.py").write_text(source.format("import nix_to_be_found\n", ""))
    (tmp_path / "late_inside.py").write_text(source.format("", "    import nix_to_be_found\n"))
    monkeypatch.syspath_prepend(tmp_path)
    table = {
        "early": Lazy("late_early:command", "Late.", extra="train"),
        "inside": Lazy("late_inside:command", "Late.", extra="train"),
        "runtime": Lazy("late_inside:command", "Late."),
        "absent": Lazy("late_absent:command", "Late."),
        "uninstalled": Lazy("late_absent.inside:command", "Late."),
    }
    yield LazyGroup("late", commands_by_name=table)
    for name in ("late_early", "late_inside"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["early", "inside"])
def test_a_missing_extra_is_told(late: click.Group, name: str) -> None:
    result = CliRunner().invoke(late, [name])
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: this needs nix_to_be_found, which is not installed: pip install 'hvcodec[train]'\n"
    )


def test_a_broken_installation_is_unexpected(late: click.Group) -> None:
    result = CliRunner().invoke(late, ["runtime"])
    assert result.exit_code == 1
    assert "unexpected ModuleNotFoundError" in result.stderr


def test_help_imports_no_command_and_lists_those_there(late: click.Group) -> None:
    result = CliRunner().invoke(late, ["--help"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.partition("Commands:\n")[2].splitlines()] == [
        "early",
        "inside",
        "runtime",
    ]
    assert "late_early" not in sys.modules
    assert CliRunner().invoke(late, ["absent"]).exit_code == 2


def test_the_entry_point_calls_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["hvcodec", "--version"])
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code == 0


# --- what is told -------------------------------------------------------------------------------------------


def test_json_has_no_infinity() -> None:
    assert to_json({"psnr_db": float("inf"), "n": 1}) == '{"psnr_db": null, "n": 1}'


def test_the_bar_is_for_terminals_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    report = Reporter()

    def two_steps() -> str:
        with report.bar("compress", 2) as tick:
            for step in (1, 2):
                report.say(f"step {step}")
                tick()
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err

    assert two_steps() == "step 1\nstep 2\n"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = two_steps()
    assert "step 1" in shown
    assert "compress" in shown
    assert "2/2" in shown
