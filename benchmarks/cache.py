"""Remember measurements in append-only files, so that a run that was stopped goes on where it was.

Every line is one JSON object `{"key": …, "row": …}`, written and flushed as soon as it is measured. A line
torn by a killed run is ignored; of two lines with one key the later counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .fingerprint import digest


def key_of(*parts: object) -> str:
    """One key for everything that a measurement depends on."""
    return digest(json.dumps(parts, default=str).encode())


class RowCache:
    """The measurements of one file, by key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, dict[str, Any]] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                self._remember(line)

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: str) -> dict[str, Any] | None:
        """The measurement of this key, or None if it was never made."""
        return self._rows.get(key)

    def row(self, key: str, measure: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
        """The measurement of this key, made of the arguments and kept if it never was."""
        known = self.get(key)
        if known is None:
            known = measure(*args)
            self.put(key, known)
        return known

    def put(self, key: str, row: dict[str, Any]) -> None:
        """Keep a measurement, on disk too before this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            if file.tell() and not self._ends_with_newline():
                file.write(b"\n")  # after a torn line
            file.write(json.dumps({"key": key, "row": row}).encode() + b"\n")
        self._rows[key] = row

    def _ends_with_newline(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, 2)
            return file.read(1) == b"\n"

    def _remember(self, line: str) -> None:
        try:
            entry = json.loads(line)
            self._rows[entry["key"]] = entry["row"]
        except (json.JSONDecodeError, KeyError, TypeError):
            return
