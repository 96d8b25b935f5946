"""Checkpoints that survive a kill at any moment: written aside, flushed to the disk, then renamed.

    checkpoint-00001200.safetensors    the newest; the one before it is kept as well
    checkpoint-00001100.safetensors

A checkpoint is any nesting of dicts, lists and tuples around tensors and plain values. Tensors become entries
of a safetensors file, and the nesting itself is JSON in its header: no pickle, so loading runs no code.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from hvcodec.errors import ConfigError
from hvcodec.files import lock

log = logging.getLogger(__name__)

KEPT = 2
_NAME = re.compile(r"checkpoint-(\d{8,})\.safetensors")
_KEY = "state"


def save(folder: Path, step: int, state: Any) -> Path:
    """Write the state of a run at a step; when this returns, the checkpoint outlives a crash.

    Keeps the two newest checkpoints and removes others, and what a killed writer left behind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_flatten(state, "", tensors))
    path = folder / f"checkpoint-{step:08d}.safetensors"
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(to_bytes(tensors, metadata={_KEY: tree}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as err:
        temporary.unlink(missing_ok=True)
        raise ConfigError(
            f"the checkpoint {path} cannot be written ({err.strerror}): make room for it, then go on with --resume"
        ) from err
    _flush_folder(folder)
    stale = [old for old in checkpoints(folder) if old != path][KEPT - 1 :]
    for old in [*stale, *folder.glob("checkpoint-*.tmp")]:
        old.unlink(missing_ok=True)
    return path


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes from training in a folder meanwhile; ConfigError if one does. A kill ends it too."""
    with (folder / ".lock").open("wb") as file:
        try:
            lock(file)
        except BlockingIOError as err:
            raise ConfigError(
                f"another process is training in {folder}: wait for it, or choose another folder"
            ) from err
        except OSError as err:
            log.warning("no lock in %s (%s): see to it that no other process trains there", folder, err.strerror)
        yield


def load(folder: Path, device: torch.device | str = "cpu", *, set_aside: bool = False) -> Any:
    """Read the newest whole checkpoint of a folder; raises ConfigError when there is none.

    A damaged one is passed over for the one before it, with a warning. With `set_aside` it also gets another name,
    so that a run which goes on does not count it among those to keep.
    """
    candidates = checkpoints(folder)
    for i, path in enumerate(candidates):
        try:
            state = read(path, device)
        except ConfigError as err:
            log.warning("%s; trying the checkpoint before it", err)
            continue
        for damaged in candidates[:i] if set_aside else ():
            with suppress(OSError):  # then it stays where it is
                log.warning("%s is now called %s", damaged, damaged.replace(damaged.with_suffix(".damaged")).name)
        return state
    raise ConfigError(f"no {'whole ' if candidates else ''}checkpoint in {folder}")


def read(path: Path, device: torch.device | str = "cpu") -> Any:
    """Read one checkpoint file with its tensors on a device; raises ConfigError."""
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            tree = json.loads(file.metadata()[_KEY])
            return _unflatten(tree, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as err:
        raise ConfigError(f"{path} is not a whole checkpoint: {err}") from err


def checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints of a folder, the newest first."""
    found = [(int(match[1]), path) for path in folder.glob("*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":  # only there is a rename an entry that can be flushed
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flatten(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Describe a nesting in JSON and collect its tensors; keys keep their type (optimisers use integers)."""
    if isinstance(value, Tensor):
        # Copies: safetensors refuses tensors that share memory, and training goes on meanwhile.
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        for key in value:
            if type(key) not in (str, int):
                raise TypeError(f"a checkpoint cannot hold a key of type {type(key).__name__} (in {name!r})")
        return {"dict": [[key, _flatten(item, f"{name}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_flatten(item, f"{name}/{i}", tensors) for i, item in enumerate(value)]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a checkpoint cannot hold a {type(value).__name__} (at {name!r})")


def _unflatten(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unflatten(item, tensors) for key, item in content}
    items = [_unflatten(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items
