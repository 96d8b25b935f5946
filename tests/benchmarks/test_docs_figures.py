"""Figures and tables of the documentation come from results, the same bytes every time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hvcodec_benchmarks import docs_figures, figures, store, tables
from hvcodec_benchmarks.progress import Reporter

PAGE = """# Title
<!-- bench: bd-rates -->
stale
<!-- /bench -->
text between
<!-- bench: speed -->
<!-- /bench -->
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with a README."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(PAGE)
    return tmp_path


def test_figures_and_tables_are_made_from_results(root: Path, results: Path) -> None:
    docs_figures.regenerate(root, results, Reporter())
    drawn = {path.stem: path.read_bytes() for path in (root / "docs" / "figures").glob("*.svg")}
    assert set(drawn) == set(figures.FIGURES) - {"rho-response"}  # whose curve was not measured
    readme = (root / "README.md").read_text()
    assert "stale" not in readme
    assert "| Double |" in readme
    assert "would take about 99 s" in readme
    assert "text between" in readme


def test_the_same_results_give_the_same_bytes(root: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "FIGURES", {"layers": figures.layers})
    made = []
    for _ in range(2):
        docs_figures.regenerate(root, results, Reporter())
        files = (root / "docs" / "figures" / "layers.svg", root / "README.md")
        made.append([file.read_bytes() for file in files])
    assert made[0] == made[1]


def test_without_results_everything_stays_as_it_is(root: Path, tmp_path: Path) -> None:
    docs_figures.regenerate(root, tmp_path / "nothing", Reporter())
    # The published curves are there without us, as soon as the set is Kodak; this one is not.
    assert list((root / "docs" / "figures").iterdir()) == []
    assert (root / "README.md").read_text() == PAGE


def test_a_table_that_nobody_makes_is_an_error(root: Path, results: Path) -> None:
    (root / "README.md").write_text("<!-- bench: prophecy -->\n<!-- /bench -->\n")
    with pytest.raises(ValueError, match="prophecy"):
        docs_figures.fill(root / "README.md", results, Reporter())


@pytest.mark.parametrize("name", tables.TABLES)
def test_every_table_is_markdown_or_nothing(name: str, results: Path, tmp_path: Path) -> None:
    assert tables.TABLES[name](tmp_path / "nothing") is None
    made = tables.TABLES[name](results)
    if made is not None:
        lines = [line for line in made.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1


def test_effort_that_saves_a_tenth_of_the_bytes_is_told_as_that(tmp_path: Path) -> None:
    points = ((1000, 28.0), (3000, 31.0), (8000, 35.0), (20000, 41.0))
    for effort, share in ((1, 1.0), (5, 0.95), (7, 0.9)):
        rows = [
            {"picture": name, "n_bytes": share * n_bytes, "psnr_db": psnr, "encode_cpu_s": 10.0 * effort}
            for name in ("a", "b")
            for n_bytes, psnr in points
        ]
        store.write(tmp_path / f"hvcodec-psnr-e{effort}.json", {"rows": rows})
    table = tables.effort_curves(tmp_path)
    assert table is not None
    assert table.splitlines()[2:] == [
        "| `psnr` | PSNR | 5 | 2 | -5.0 % | -5.0 % | 50 s |",
        "| `psnr` | PSNR | 7 | 2 | -10.0 % | -10.0 % | 70 s |",
    ]
