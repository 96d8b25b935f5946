"""The hvcodec command as a real program: bytes through pipes, a terminal, signals, and a light start."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from calling import Process

import hvcodec as api

HEAVY = "{'torch', 'numpy', 'PIL', 'rich', 'constriction', 'matplotlib', 'safetensors'}"


def test_bytes_flow_through_pipes(photo: Path, process: Process) -> None:
    packed = process("compress", "-", "--quality", "20", input=photo.read_bytes())
    assert packed.returncode == 0, packed.stderr
    assert api.inspect(packed.stdout).size == (56, 40)
    assert packed.stderr.startswith(b"- -> -: ")
    shown = process("decompress", "-", "--format", "ppm", "-q", input=packed.stdout)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert shown.stdout.startswith(b"P6\n56 40\n255\n")
    assert shown.stdout.endswith(api.decompress(packed.stdout, kind="array").tobytes())


def test_a_terminal_gets_no_bytes(photo: Path, process: Process) -> None:
    master, terminal = pty.openpty()
    try:
        result = process(
            "compress", "photo.png", "-o", "-", capture_output=False, stdout=terminal, stderr=subprocess.PIPE
        )
    finally:
        os.close(terminal)
        os.close(master)
    assert result.returncode == 2
    assert b"a terminal cannot show these bytes" in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["info", "photo.hvc"],
        ["info", "photo.hvc", "--json"],
        ["models"],
        ["profiles"],
        ["--help"],
        ["compress", "--help"],
        ["decompress", "--help"],
        ["--version"],
    ],
)
def test_what_needs_no_network_starts_without_it(packed: Path, args: list[str]) -> None:
    program = (
        "import sys; from hvcodec_cli.main import main\ntry: main()\n"
        f"finally: print(sorted({HEAVY} & set(sys.modules)), file=sys.stderr)"
    )
    command = [sys.executable, "-c", program, *args]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stderr) == (0, "[]\n")
    assert result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="no descriptors there")
@pytest.mark.parametrize(
    ("closed", "args", "code"),
    [
        (0, ["info", "-"], 2),
        (1, ["compress", "photo.png", "-o", "-"], 2),
        (2, ["compress", "photo.png", "other.png", "-o", "out/"], 0),
    ],
)
def test_closed_streams_are_told(photo: Path, process: Process, closed: int, args: list[str], code: int) -> None:
    Path("other.png").write_bytes(photo.read_bytes())
    done = process(*args, preexec_fn=lambda: os.close(closed))
    assert done.returncode == code
    assert (b"is closed: name a file" in done.stderr) is (code == 2)


@pytest.mark.parametrize("args", [["models", "--json"], ["compress", "--help"], ["--help"], ["--version"]])
def test_a_reader_that_leaves_early_causes_no_traceback(photo: Path, args: list[str]) -> None:
    command = [sys.executable, "-m", "hvcodec_cli.main", *args]
    read, write = os.pipe()
    os.close(read)
    try:
        result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False, timeout=60)
    finally:
        os.close(write)
    assert (result.returncode, result.stderr) == (141, b"")
