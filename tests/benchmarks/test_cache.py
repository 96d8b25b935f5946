"""Cached rows survive a killed run, and a digest tells when they no longer count."""

from __future__ import annotations

from pathlib import Path

from hvcodec_benchmarks.cache import RowCache, key_of


def test_rows_come_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.jsonl"
    RowCache(path).put("a", {"n_bytes": 3})
    RowCache(path).put("b", {"n_bytes": 4})
    again = RowCache(path)
    assert len(again) == 2
    assert again.get("a") == {"n_bytes": 3}
    assert again.get("c") is None


def test_a_torn_line_is_ignored_and_writing_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    RowCache(path).put("a", {"n_bytes": 3})
    with path.open("a") as file:
        file.write('{"key": "b", "row": {"n_by')  # the process died here
    cache = RowCache(path)
    assert len(cache) == 1
    cache.put("c", {"n_bytes": 5})
    again = RowCache(path)
    assert again.get("a") == {"n_bytes": 3}
    assert again.get("c") == {"n_bytes": 5}
    assert again.get("b") is None


def test_the_later_of_two_rows_counts(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    cache = RowCache(path)
    cache.put("a", {"n_bytes": 3})
    cache.put("a", {"n_bytes": 7})
    assert RowCache(path).get("a") == {"n_bytes": 7}


def test_every_part_changes_the_key() -> None:
    parts = ("picture", "codec", "version 1", 50, "metrics")
    keys = {key_of(*parts)}
    for index in range(len(parts)):
        keys.add(key_of(*parts[:index], "other", *parts[index + 1 :]))
    assert len(keys) == len(parts) + 1
