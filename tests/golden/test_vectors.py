"""Golden files: good ones decode to the symbols and samples of an independent decoder, bad ones are refused."""

from __future__ import annotations

import ast
import hashlib
import json
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import decoder
import numpy as np
import pytest
from make_vectors import BAD, CASES, TINY, VECTORS, Array, encode, zero_digests
from PIL import Image
from reader import read

import hvcodec.errors
from hvcodec import container
from hvcodec.codec import Codec
from hvcodec.model.config import lambda_of
from hvcodec.picture import to_array

NAMES = sorted(path.stem for path in VECTORS.glob("*.hvc"))
INDEX: dict[str, dict[str, Any]] = json.loads((BAD / "index.json").read_text(encoding="utf-8"))
MOST_BYTES = 1_500_000


@dataclass(frozen=True)
class Vector:
    data: bytes
    expected: dict[str, Any]
    samples: Array
    codec: Codec


@cache
def codec_of(model: Path) -> Codec:
    return Codec(model, device="cpu")


def load(name: str) -> Vector:
    samples = VECTORS / f"{name}.npy"
    if samples.exists():
        array = np.load(samples)
    else:
        with Image.open(VECTORS / f"{name}.png") as img:
            array = np.asarray(img)
    expected = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return Vector((VECTORS / f"{name}.hvc").read_bytes(), expected, array, codec_of(CASES[name].model))


@pytest.fixture(params=NAMES)
def vector(request: pytest.FixtureRequest) -> Vector:
    return load(request.param)


# --- the folders ----------------------------------------------------------------------------------------------


def test_every_file_belongs_to_a_listed_vector() -> None:
    assert sorted(CASES) == NAMES
    samples = {name: "npy" if load(name).expected["depth"] == 16 else "png" for name in NAMES}
    wanted = {f"{name}.{suffix}" for name in NAMES for suffix in ("hvc", "json", samples[name])}
    assert {path.name for path in VECTORS.iterdir()} == wanted


def test_every_bad_file_is_listed() -> None:
    assert {path.name for path in BAD.iterdir()} == {*INDEX, "index.json"}


def test_every_class_of_format_errors_has_bad_files() -> None:
    seen = {entry["error"] for entry in INDEX.values()}
    assert seen == {
        "NotHVCError",
        "UnsupportedError",
        "TruncatedError",
        "CorruptError",
        "LimitError",
        "DesyncError",
        "ModelError",
    }


def test_golden_files_stay_small() -> None:
    files = [path for path in VECTORS.parent.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES


# --- good files -----------------------------------------------------------------------------------------------


def test_vector_is_the_file_that_was_described(vector: Vector) -> None:
    assert hashlib.sha256(vector.data).hexdigest() == vector.expected["sha256"]
    assert len(vector.data) == vector.expected["bytes"]


def test_symbols_are_exact(vector: Vector) -> None:
    file = container.unpack(vector.data, partial=vector.expected["partial"])
    symbols = vector.codec.decode_symbols(file)
    assert all(planes.dtype == np.int16 for planes in symbols)
    digests = [zlib.crc32(planes.astype("<i2").tobytes()) for planes in symbols]
    assert digests == vector.expected["symbols"]


def test_samples_lie_within_the_limits(vector: Vector) -> None:
    expected = vector.expected
    decoded = vector.codec.decode(vector.data, partial=expected["partial"])
    assert [decoded.width, decoded.height] == expected["size"]
    assert (decoded.is_grey, decoded.depth) == (expected["grey"], expected["depth"])
    found = to_array(decoded)
    assert found.dtype == vector.samples.dtype
    assert found.shape == vector.samples.shape
    error = found.astype(float) - vector.samples
    if decoded.alpha is not None:
        assert not error[..., -1].any()
        error = error[..., :-1]
    assert np.abs(error).max() <= expected["peak"]
    assert np.sqrt(np.mean(error**2)) <= expected["rmse"]


def test_metadata_come_back(vector: Vector) -> None:
    decoded = vector.codec.decode(vector.data, partial=vector.expected["partial"])
    parts = {name: getattr(decoded, name) for name in ("icc", "exif", "xmp")}
    found = {name: part.hex() for name, part in parts.items() if part is not None}
    assert found == vector.expected["metadata"]


def test_reader_of_the_document_agrees(vector: Vector) -> None:
    if vector.expected["partial"]:
        with pytest.raises(ValueError, match="ends early"):
            read(vector.data)
        return
    fields = read(vector.data)
    assert [fields["Width"], fields["Height"]] == vector.expected["size"]
    assert fields["Rho"] == vector.expected["rho"]
    assert (fields["grey"], fields["depth"]) == (vector.expected["grey"], vector.expected["depth"])
    stored = [layer.get("Symbol_Digest") for layer in fields["layers"]]
    assert stored in (vector.expected["symbols"], [None] * len(stored))


@pytest.mark.parametrize("name", sorted(name for name, case in CASES.items() if case.edit is bytes))
def test_encoder_is_as_good_as_when_the_vector_was_made(name: str) -> None:
    case, expected, codec = CASES[name], load(name).expected, codec_of(CASES[name].model)
    encoded = encode(codec, case)
    decoded = codec.decode(encoded).pixels.astype(float)
    rmse = float(np.sqrt(np.mean((decoded - case.picture.pixels) ** 2)))

    def cost(n_bytes: int, rmse: float) -> float:
        """R + lambda D in bits: an encoder may trade one for the other, but must not get worse in their sum."""
        width, height = expected["size"]
        mse = (rmse / (2 ** expected["depth"] - 1)) ** 2
        return 8 * n_bytes + lambda_of(float(np.mean(expected["rho"]))) * width * height * mse

    # The encoder is tuned for good models; this one is tiny, and some of its pictures are mostly padding.
    assert cost(len(encoded), rmse) <= 1.05 * cost(expected["bytes"], expected["source_rmse"]) + 64
    assert rmse <= 1.02 * expected["source_rmse"] + 0.1


def test_layers_without_symbols_take_no_bytes() -> None:
    file = container.unpack(load("empty_layers").data)
    assert file.chunks == (b"",) * len(file.chunks)
    assert file.header.digests == tuple(zero_digests(file.header.height, file.header.width))
    sizes = container.unpack(load("no_fine_layers").data).header.chunk_sizes
    assert sizes[0] > 0
    assert sizes[-1] == 0


def test_vectors_name_their_golden_model(vector: Vector) -> None:
    header = container.read_header(vector.data)
    assert header.model_id == vector.codec.model_id
    assert header.in_trellis == (vector.codec.trellis is not None)


# --- bad files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(INDEX))
def test_bad_file_is_refused_as_listed(name: str) -> None:
    entry = INDEX[name]
    codec = codec_of(TINY.with_stem(entry["model"]))
    with pytest.raises(hvcodec.errors.HVCodecError) as info:
        codec.decode((BAD / name).read_bytes(), **entry["options"])
    error = info.value
    assert type(error) is getattr(hvcodec.errors, entry["error"])
    found = {attribute: getattr(error, attribute) for attribute in entry["attributes"]}
    assert found == entry["attributes"]
    assert str(error).startswith(entry["message"])
    assert len(str(error)) > 20  # a sentence, not a word


@pytest.mark.parametrize("name", sorted(n for n, e in INDEX.items() if n.startswith("cut_") and not e["options"]))
def test_cut_file_decodes_as_far_as_it_goes(name: str, tiny_codec: Codec) -> None:
    data, layers = (BAD / name).read_bytes(), INDEX[name]["attributes"]["layers_complete"]
    if layers is None:
        with pytest.raises(hvcodec.errors.TruncatedError):
            tiny_codec.decode(data, partial=True)
        return
    header = container.read_header(data)
    decoded = tiny_codec.decode(data, partial=True)
    assert (decoded.width, decoded.height) == (header.width, header.height)


# --- the independent decoder ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(name for name, case in CASES.items() if not case.partial))
def test_decoder_of_the_document_reads_the_vector(name: str) -> None:
    vector = load(name)
    symbols, values = decoder.decode(vector.data, decoder.Model(CASES[name].model))
    assert [zlib.crc32(planes.astype("<i2").tobytes()) for planes in symbols] == vector.expected["symbols"]
    peak = 2 ** vector.expected["depth"] - 1
    colors = vector.samples if vector.samples.shape == values.shape else vector.samples[..., :-1]
    error = np.clip(values, 0, peak) - colors.reshape(values.shape)
    assert np.abs(error).max() <= 0.5 + 1e-6 * peak


def test_decoder_of_the_document_is_independent() -> None:
    for file in ("decoder.py", "reader.py", "entropy_reader.py", "trellis_reader.py", "bad_files.py"):
        tree = ast.parse((VECTORS.parent / file).read_text(encoding="utf-8"))
        names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert not [name for name in names if name.split(".")[0] in ("hvcodec", "torch", "constriction")], file
