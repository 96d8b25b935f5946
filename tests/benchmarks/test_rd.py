"""Rows are files: their bytes, their pixels and their metrics; runs resume, and failures are written down."""

from __future__ import annotations

import math
import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from doubles import BrokenDouble, LayeredDouble, reference
from hvcodec_benchmarks import rd, rows, store, workers
from hvcodec_benchmarks.cache import RowCache
from hvcodec_benchmarks.codecs import Unavailable, reference_codecs
from hvcodec_benchmarks.pictures import Sample, find, set_name, spread
from PIL import Image

from hvcodec import HVCodecError, ImageError, metrics


@pytest.mark.parametrize("entry", reference_codecs(), ids=lambda entry: entry.name)
def test_bits_per_pixel_are_those_of_a_file_that_decodes_again(
    entry: object, samples: list[Sample], tmp_path: Path
) -> None:
    if isinstance(entry, Unavailable):
        pytest.skip(f"{entry.title}: {entry.reason}")
    codec = entry
    image = samples[0].load()
    setting = codec.settings[len(codec.settings) // 2]
    row = rows.measure_in(tmp_path, codec, rows.Job(samples[0], setting))

    (written,) = tmp_path.iterdir()
    assert row["n_bytes"] == written.stat().st_size
    assert row["bpp"] == pytest.approx(8 * written.stat().st_size / (image.width * image.height), abs=1e-6)
    decoded = codec.decode(written.read_bytes())
    assert decoded.mode == "RGB"
    assert decoded.size == image.size
    assert row["psnr_db"] == pytest.approx(metrics.psnr(np.asarray(image), np.asarray(decoded)), abs=1e-3)


def test_more_bytes_at_every_setting(samples: list[Sample]) -> None:
    image = samples[1].load()
    for codec in reference_codecs():
        if isinstance(codec, Unavailable) or codec.name.startswith("avif"):
            continue  # AVIF takes seconds; its curve is in the results
        sizes = [len(codec.encode(image, setting)) for setting in codec.settings]
        assert sizes == sorted(sizes), codec.name


def test_a_second_run_encodes_nothing_and_keeps_the_file(samples: list[Sample], tmp_path: Path) -> None:
    codec, cache = LayeredDouble(), tmp_path / "rows.jsonl"
    ticks: list[int] = []
    first = rd.run(codec, samples, tmp_path / "set", RowCache(cache), lambda: ticks.append(1))
    written = (tmp_path / "set" / f"{codec.name}.json").read_bytes()
    n_rows = len(samples) * len(codec.settings)
    assert codec.encodes == len(ticks) == len(first["rows"]) == n_rows

    second = rd.run(codec, samples, tmp_path / "set", RowCache(cache))
    assert codec.encodes == n_rows
    assert second["rows"] == first["rows"]
    assert (tmp_path / "set" / f"{codec.name}.json").read_bytes() == written


def test_a_run_that_was_killed_goes_on(samples: list[Sample], tmp_path: Path) -> None:
    cache = tmp_path / "rows.jsonl"

    class Killed(BaseException):
        pass

    def kill_after_three() -> None:
        if len(RowCache(cache)) == 3:
            raise Killed

    codec = LayeredDouble()
    with pytest.raises(Killed):
        rd.run(codec, samples, tmp_path, RowCache(cache), kill_after_three)
    rd.run(codec, samples, tmp_path, RowCache(cache))
    assert codec.encodes == len(samples) * len(codec.settings)


def test_another_version_is_measured_again(samples: list[Sample], tmp_path: Path) -> None:
    cache = tmp_path / "rows.jsonl"
    rd.run(LayeredDouble(), samples, tmp_path, RowCache(cache))
    newer = LayeredDouble(version="2")
    rd.run(newer, samples, tmp_path, RowCache(cache))
    assert newer.encodes == len(samples) * len(newer.settings)


def test_workers_measure_what_one_process_does(samples: list[Sample], tmp_path: Path) -> None:
    codec = reference("jpeg-420")
    single = rd.run(codec, samples, tmp_path / "a", RowCache(tmp_path / "a.jsonl"))
    with workers.crew_of(samples, 2) as crew:
        shared = rd.run(codec, samples, tmp_path / "b", RowCache(tmp_path / "b.jsonl"), crew=crew)
    for a, b in zip(single["rows"], shared["rows"], strict=True):
        times = {"encode_cpu_s", "decode_cpu_s"}
        assert {name: a[name] for name in a.keys() - times} == {name: b[name] for name in b.keys() - times}


def test_a_worker_refuses_a_codec_that_is_not_the_one_asked_for(samples: list[Sample], tmp_path: Path) -> None:
    codec = replace(reference("jpeg-420"), version="another")
    with workers.crew_of(samples, 2) as crew, pytest.raises(HVCodecError, match="changed"):
        rd.run(codec, samples, tmp_path, RowCache(tmp_path / "rows.jsonl"), crew=crew)


def test_workers_are_as_many_as_memory_allows(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 8)
    for memory, expected in ((None, 1), (0, 1), (5 * workers.PROCESS_BYTES, 3), (10**12, 8)):
        monkeypatch.setattr(workers, "memory_bytes", lambda memory=memory: memory)
        assert workers._most(samples) == expected


def test_a_worker_that_is_killed_is_an_error_that_says_so(samples: list[Sample], tmp_path: Path) -> None:
    codec = reference("jpeg-420")
    jobs = [rows.Job(samples[0], setting) for setting in codec.settings]

    def kill(job: object) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    with workers.crew_of(samples, 2) as crew, pytest.raises(HVCodecError, match="a worker ended"):
        list(map(kill, crew(codec, jobs)))


def test_averages_are_means_over_the_pictures_at_equal_setting(samples: list[Sample], tmp_path: Path) -> None:
    document = rd.run(LayeredDouble(), samples, tmp_path, RowCache(tmp_path / "rows.jsonl"))
    for average in document["averages"]:
        same = [row for row in document["rows"] if row["setting"] == average["setting"]]
        assert [row["picture"] for row in same] == [sample.name for sample in samples]
        for name in ("bpp", "psnr_db", "ms_ssim", "ssimulacra2"):
            assert average[name] == pytest.approx(sum(row[name] for row in same) / len(same), abs=1e-5)
        # The layers make up the file but for what stands before them.
        assert math.fsum(average["layer_bpp"]) == pytest.approx(average["bpp"], rel=0.02)


def test_a_failure_is_written_down_and_leaves_no_average(samples: list[Sample], tmp_path: Path) -> None:
    codec = BrokenDouble()
    document = rd.run(codec, samples, tmp_path, RowCache(tmp_path / "rows.jsonl"))
    assert [failure["picture"] for failure in document["failures"]] == [sample.name for sample in samples]
    assert "gives up" in document["failures"][0]["error"]
    assert [row["setting"] for row in document["averages"]] == list(codec.settings[:-1])
    assert store.read(tmp_path / f"{codec.name}.json") == document


def test_metrics_that_a_picture_is_too_small_for_are_none() -> None:
    tiny = Image.new("RGB", (20, 12), "teal")
    found = rows.compare(tiny, tiny)
    assert found["psnr_db"] is None  # infinite
    assert found["ms_ssim"] is None
    assert found["ssimulacra2"] == 100


def test_pictures_are_found_and_named(samples: list[Sample], tmp_path: Path) -> None:
    folder = samples[0].path.parent
    assert [sample.name for sample in find([folder])] == [sample.name for sample in samples]
    assert set_name([folder]) == folder.name
    assert set_name([samples[0].path]) == "pictures"
    assert samples[0].digest != samples[1].digest
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="no picture"):
        find([tmp_path])
    assert spread(range(24), 6) == [0, 4, 8, 12, 16, 20]  # type: ignore[arg-type]


def test_what_is_no_picture_is_left_out_of_a_folder(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "._a.png").write_bytes(b"of another system")
    (tmp_path / "folder.png").mkdir()
    assert [sample.name for sample in find([tmp_path])] == ["a"]


def test_16_bit_pictures_are_measured_at_8(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 128, 32896, 65535]], np.uint16)).save(tmp_path / "a.png")
    (sample,) = find([tmp_path])
    assert np.asarray(sample.load()).tolist() == [[[0] * 3, [0] * 3, [128] * 3, [255] * 3]]
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"b\.png: this is no picture"):
        find([tmp_path])[1].load()


def test_pictures_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    files = [tmp_path / "one" / "a.png", tmp_path / "one" / "a.jpg", tmp_path / "two" / "a.png", tmp_path / "b.png"]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(file)
    names = [sample.name for sample in find(files)]
    assert names == [files[0].as_posix(), "a.jpg", files[2].as_posix(), "b"]
