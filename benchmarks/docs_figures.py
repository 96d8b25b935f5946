"""Regenerate every figure and table of README and docs from the committed results (`make docs-figures`).

Figures are SVG files in `docs/figures`. Tables stand in the Markdown files between two comments,
`<!-- bench: NAME -->` and `<!-- /bench -->`; what is between them is replaced. A figure or table whose
results do not exist yet is left as it is, and said so. No number is ever typed in by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl

from . import figures, paths, tables
from .progress import Reporter

BLOCK = re.compile(r"(<!-- bench: ([a-z0-9-]+) -->\n).*?(<!-- /bench -->)", re.DOTALL)
SET = "kodak"


def main() -> None:
    """Regenerate everything in the checkout."""
    root = paths.checkout()
    if root is None:
        raise SystemExit("docs figures belong to a checkout of the sources, and this is an installed package")
    regenerate(root, paths.results_dir() / SET, Reporter())


def regenerate(root: Path, results: Path, reporter: Reporter) -> None:
    """Draw the figures into `root/docs/figures` and fill the tables of README.md and `root/docs`."""
    target = root / "docs" / "figures"
    target.mkdir(parents=True, exist_ok=True)
    mpl.use("svg")
    with mpl.rc_context(figures.STYLE):
        for name, draw in figures.FIGURES.items():
            drawn = draw(results)
            if drawn is None:
                reporter.say(f"figure {name}: no results yet")
                continue
            # Without a date and with a fixed salt the same results give the same bytes.
            drawn.savefig(target / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight")
            figures.close(drawn)
    for page in (root / "README.md", *sorted((root / "docs").rglob("*.md"))):
        if page.is_file():
            fill(page, results, reporter)


def fill(page: Path, results: Path, reporter: Reporter) -> None:
    """Replace the tables of one Markdown file; ValueError for a table that nobody knows how to make."""

    def table(match: re.Match[str]) -> str:
        opening, name, closing = match.groups()
        if name not in tables.TABLES:
            raise ValueError(f"{page.name} asks for a table {name}; known: {', '.join(tables.TABLES)}")
        make: Callable[[Path], str | None] = tables.TABLES[name]
        made = make(results)
        if made is None:
            reporter.say(f"table {name} of {page.name}: no results yet")
            return match.group(0)
        return f"{opening}{made}\n{closing}"

    before = page.read_text(encoding="utf-8")
    after = BLOCK.sub(table, before)
    if after != before:
        page.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
