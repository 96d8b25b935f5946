"""Read and write result files: JSON with one row on a line, so that a change can be reviewed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

STUDIES = "studies"


def write(path: Path, document: dict[str, Any]) -> None:
    """Write a result file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = (f"{json.dumps(name)}: {_value(value)}" for name, value in document.items())
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text("{\n" + ",\n".join(fields) + "\n}\n", encoding="utf-8")
    os.replace(unfinished, path)


def _value(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n " + ",\n ".join(json.dumps(item, allow_nan=False) for item in value) + "\n]"
    return json.dumps(value, allow_nan=False)


def read(path: Path) -> dict[str, Any]:
    """A result file as it was written."""
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise ValueError(f"{path} is not a result file")
    return document


def read_codecs(folder: Path) -> list[dict[str, Any]]:
    """The rate-distortion results of every codec measured on one set of pictures.

    Folders of the same name share their results' place, and pictures are added: only those of the set that was
    measured last belong beside each other.
    """
    documents = [read(path) for path in sorted(folder.glob("*.json"))]
    newest = max((document["environment"]["date"], document["set"]) for document in documents)[1] if documents else []
    return [document for document in documents if document["set"] == newest]


def study_path(folder: Path, name: str) -> Path:
    """Where the result of a study (allocation, speed, …) of one set of pictures lies."""
    return folder / STUDIES / f"{name}.json"


def read_study(folder: Path, name: str) -> dict[str, Any] | None:
    """A study's result, or None if it was never made."""
    path = study_path(folder, name)
    return read(path) if path.is_file() else None
