"""The report: one HTML page that holds its data, its pictures, its style and its script, and loads nothing.

`page/` holds the template, the style sheet and the scripts; this module gathers the data and joins them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hvcodec import files

from . import anchors, curves, paths, store, wipe
from .codecs import Codec, Unavailable
from .environment import environment
from .pictures import Sample
from .progress import Reporter

SCRIPTS = (
    "core.js",
    "plot.js",
    "curves.js",
    "wipe.js",
    "layers.js",
    "allocation.js",
    "speed.js",
    "about.js",
    "main.js",
)
SHOWN_LATER = ("hvcodec-preview-e1", "hvcodec-preview-e5", "hvcodec-psnr-e7", "hvcodec-perceptual-e5")
SHOWN_FIRST = ("jpeg-420", "webp-m6", "avif-s4-psnr", "jxl-e7", "published/vtm-18.0")
REFERENCES = ("published/vtm-18.0", "avif-s4-psnr", "avif-s4", "webp-m6")
WIPE = ("hvcodec-psnr", "hvcodec-perceptual", "jpeg-420", "webp-m6", "avif-s4", "jxl-e7")
TITLE = "<title>hvcodec measured</title>"
STUDIES = ("allocation", "plane", "speed", "stages", "calibration")


def write_report(
    folder: Path,
    samples: Sequence[Sample],
    target: Path,
    codecs: Sequence[Codec],
    unavailable: Sequence[Unavailable],
    reporter: Reporter,
) -> Path:
    """Write the page for the results in `folder`; the pictures of its wipe are coded now or cached."""
    # One that failed on a picture would fail on it here too, and the page with everything else would be lost.
    failed = {document["codec"] for document in store.read_codecs(folder) if document["failures"]}
    chosen = [codec for codec in wipe_codecs(codecs) if codec.name not in failed]
    with reporter.bar("Pictures at equal bytes", min(len(samples), wipe.MAX_PICTURES) * len(chosen)) as tick:
        gallery = wipe.collect(samples, chosen, folder, tick)
    data = page_data(folder, unavailable)
    data["wipe"] = {"targets": list(wipe.TARGETS_BPP), "pictures": gallery}
    target.parent.mkdir(parents=True, exist_ok=True)
    files.write_whole(target, render(data).encode())
    return target


def is_report(path: Path) -> bool:
    """Whether a file is a page that was written here, which may be written anew."""
    with path.open("rb") as file:
        return TITLE.encode() in file.read(1000)


def wipe_codecs(codecs: Sequence[Codec]) -> list[Codec]:
    """The codecs of the wipe: each hvcodec profile at its plain effort, and the common formats."""
    by_prefix: list[Codec] = []
    for prefix in WIPE:
        matching = [codec for codec in codecs if codec.name == prefix or codec.name.startswith(f"{prefix}-e")]
        by_prefix += matching[:1]
    if any(codec.name.startswith("hvcodec") for codec in by_prefix):
        return by_prefix
    own = [codec for codec in codecs if codec.name.startswith("hvcodec")]  # a model without profiles
    return [*own[:1], *by_prefix]


def page_data(folder: Path, unavailable: Sequence[Unavailable] = ()) -> dict[str, Any]:
    """Everything on the page but the pictures of the wipe."""
    documents = store.read_codecs(folder)
    lines = [*curves.of_set(folder), *anchors.beside(folder)]
    names = {line.name for line in lines}
    return {
        "set": folder.name,
        "pictures": documents[0]["set"] if documents else [],
        "environment": environment(),
        "curves": [_curve(line) for line in lines],
        "reference": next((name for name in REFERENCES if name in names), lines[0].name if lines else None),
        "bd": {metric: curves.bd_table(lines, metric) for metric in curves.METRICS},
        "byPicture": _by_picture(documents),
        "layers": [_layers(document) for document in documents if _has_layers(document)],
        "studies": {name: store.read_study(folder, name) for name in STUDIES},
        "codecs": [_provenance(document) for document in documents],
        "unavailable": [{"title": entry.title, "reason": entry.reason} for entry in unavailable],
    }


def _curve(line: curves.Curve) -> dict[str, Any]:
    return {
        "name": line.name,
        "title": line.title,
        "group": line.group,
        "source": line.source,
        "shown": (line.group == "hvcodec" and line.name not in SHOWN_LATER) or line.name in SHOWN_FIRST,
        "bpp": [round(value, 5) for value in line.bpp],
        "quality": {metric: [round(value, 4) for value in line.quality[metric]] for metric in line.quality},
    }


def _by_picture(documents: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """`byPicture[picture][codec]`: the curve of a single picture, as arrays."""
    result: dict[str, dict[str, Any]] = {}
    for document in documents:
        for row in document["rows"]:
            arrays = result.setdefault(row["picture"], {}).setdefault(document["codec"], {})
            for name in ("bpp", "psnr_db", "ms_ssim", "ssimulacra2"):
                arrays.setdefault(name, []).append(row[name])
    return result


def _has_layers(document: dict[str, Any]) -> bool:
    return any("layer_bpp" in row for row in document["averages"])


def _layers(document: dict[str, Any]) -> dict[str, Any]:
    rows = [row for row in document["averages"] if "layer_bpp" in row]
    points = [{key: row[key] for key in ("setting", "bpp", "layer_bpp")} for row in rows]
    named = {"codec": document["codec"], "title": document["title"], "strides": rows[0]["layer_strides"]}
    return {**named, "points": points}


def _provenance(document: dict[str, Any]) -> dict[str, Any]:
    machine = document["environment"]
    return {
        "title": document["title"],
        "version": document["version"],
        "date": machine["date"][:10],
        "cpu": machine["cpu"],
        "commit": machine["commit"],
        "failures": document["failures"],
    }


def render(data: dict[str, Any]) -> str:
    """The page as one string: template, style, scripts and data joined."""
    # "</" could end the script element early, wherever it stands in the data.
    embedded = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("</", "<\\/")
    script = "\n".join((paths.PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    page = (paths.PAGE / "page.html").read_text(encoding="utf-8")
    style = (paths.PAGE / "style.css").read_text(encoding="utf-8")
    for mark, content in (("/*STYLE*/", style), ("/*SCRIPT*/", script), ("/*DATA*/", embedded)):
        if page.count(mark) != 1:
            raise ValueError(f"the template must contain {mark} exactly once")
        before, after = page.split(mark)
        page = before + content + after
    return page
