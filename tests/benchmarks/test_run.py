"""The whole benchmark on two small pictures: curves, report, and a second run that measures nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from doubles import LayeredDouble
from hvcodec_benchmarks import bench, codecs, commands, paths, run, workers
from hvcodec_benchmarks.codecs import Entry, Unavailable, reference_codecs
from hvcodec_benchmarks.pictures import Sample


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LayeredDouble:
    """A catalogue of the double, WebP, and one codec that is not installed; results go to a folder here."""
    codec = LayeredDouble()

    def catalogue() -> dict[str, Entry]:
        webp = next(entry for entry in reference_codecs() if entry.name == "webp-m6")
        entries: list[Entry] = [codec, webp, Unavailable("jxl-e7", "JPEG XL", "not installed here")]
        return {entry.name: entry for entry in entries}

    for module in (codecs, run, commands):
        monkeypatch.setattr(module, "catalogue", catalogue)
    monkeypatch.setattr(paths, "results_dir", lambda: tmp_path / "results")
    monkeypatch.setattr(paths, "user_cache", lambda: tmp_path / "user")
    monkeypatch.setattr(workers, "MOST", 1)  # in this process: others would not know the double
    return codec


def test_bench_writes_a_report_and_measures_once(double: LayeredDouble, samples: list[Sample], tmp_path: Path) -> None:
    page = bench([sample.path for sample in samples], ["hvcodec", "webp", "jxl"], tmp_path / "out.html")
    assert page == tmp_path / "out.html"
    text = page.read_text(encoding="utf-8")
    assert "not installed here" in text
    assert double.title in text
    encodes = double.encodes
    assert encodes > 0
    bench([sample.path for sample in samples], ["hvcodec", "webp", "jxl"], tmp_path / "out.html")
    assert double.encodes == encodes


def test_an_unknown_codec_is_an_error_that_lists_the_known(double: LayeredDouble, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"flif.*webp-m6"):
        run.choose(["flif"])


def test_commands(double: LayeredDouble, samples: list[Sample], tmp_path: Path) -> None:
    runner, images = CliRunner(), ["--images", str(samples[0].path.parent)]
    listed = runner.invoke(commands.main, ["codecs"], catch_exceptions=False)
    assert "not installed here" in listed.output

    measured = runner.invoke(commands.main, ["rd", *images, "--codec", "hvcodec"], catch_exceptions=False)
    assert measured.exit_code == 0
    folder = tmp_path / "results" / samples[0].path.parent.name
    assert (folder / "hvcodec-psnr-e1.json").is_file()

    page = tmp_path / "page.html"
    done = runner.invoke(commands.main, ["report", *images, "--out", str(page)], catch_exceptions=False)
    assert done.exit_code == 0
    assert page.is_file()
