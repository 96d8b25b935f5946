"""Make the golden vectors: vectors/*.hvc, what a decoder must make of them, and bad/*.hvc with index.json.

    python tests/golden/make_vectors.py [NAME ...]

makes all of them, or only the vectors and bad files of these names. Symbols and samples that are expected come from
decoder.py, which was written from docs/format.md, not from hvcodec. The models are those of make_model.py. A change
of these files is a change of the format or of a model: review it like code.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import bad_files
import decoder
from synthetic import picture

from hvcodec import container
from hvcodec.codec import Codec
from hvcodec.entropy import LayerEncoder
from hvcodec.model.walk import walk_prior
from hvcodec.picture import Picture
from hvcodec.trellis import Pass

Array = np.ndarray[Any, np.dtype[Any]]
TINY, TRELLIS = (HERE / "models" / f"{name}.safetensors" for name in ("tiny", "trellis"))
VECTORS, BAD = HERE / "vectors", HERE / "bad"
MEDIUM = (20,) * 5
HIGH = (45,) * 5
METADATA = {
    "icc": bytes(range(256)) * 3,
    "exif": b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0",  # orientation 6
    "xmp": b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>\xc3\xa4</x:xmpmeta>",
}


@dataclass(frozen=True)
class Case:
    """A picture and how it is encoded; `edit` changes the bytes of the file."""

    picture: Picture
    rho: tuple[int, ...] = MEDIUM
    digests: bool = False
    partial: bool = False
    edit: Callable[[bytes], bytes] = bytes
    model: Path = TINY


def flat(value: float, height: int, width: int) -> Array:
    return np.full((height, width, 3), value)


def slope(height: int, width: int) -> Array:
    y, x = np.mgrid[:height, :width]
    return np.stack([x / width, y / height, (x + y) / (width + height)], axis=-1)


def extremes(height: int, width: int) -> Array:
    """Black, white and saturated colours in blocks, with single bright points."""
    y, x = np.mgrid[:height, :width] // 5
    values = np.stack([(y + x) % 2, y % 2, (y * x) % 2], axis=-1).astype(float)
    values[::11, ::7] = 1 - values[::11, ::7]
    return values


def noise(height: int, width: int) -> Array:
    return np.random.default_rng(9).uniform(0, 1, (height, width, 3))


def cut(layers: int, more: int = 0) -> Callable[[bytes], bytes]:
    """Keep so many layers of a file and some bytes of the next."""

    def edit(data: bytes) -> bytes:
        header = container.read_header(data)
        return data[: header.header_bytes + sum(header.chunk_sizes[:layers]) + more]

    return edit


def without_layers(data: bytes) -> bytes:
    """The same picture with all chunks empty: what the model makes of nothing."""
    header = container.read_header(data)
    return container.pack(
        width=header.width, height=header.height, grey=header.grey, depth=header.depth,
        model_id=header.model_id, rho=header.rho, chunks=[b""] * header.n_layers,
        digests=zero_digests(header.height, header.width),
    )  # fmt: skip


def zero_digests(height: int, width: int) -> list[int]:
    positions = -(-height // 64) * -(-width // 64)
    stages = [stage for stage in decoder.Model(TINY).stages for _ in range(stage["layers"])]
    counts = [stage["channels"] * positions * (64 // stage["stride"]) ** 2 for stage in stages]
    return [zlib.crc32(bytes(2 * count)) for count in counts]


def with_ignorable_parts(data: bytes) -> bytes:
    """Both unused flags set, and an extra that decoders may skip."""
    file = container.unpack(data)
    header = file.header
    longer = container.pack(
        width=header.width, height=header.height, grey=header.grey, depth=header.depth,
        model_id=header.model_id, rho=header.rho, chunks=file.chunks, digests=header.digests,
        extras={**file.extras, 128: b"", 255: b"of a later version"},
    )  # fmt: skip
    return bad_files.repaired(bad_files.changed(longer, 5, longer[5] | 0xC0))


CASES = {
    "one_pixel": Case(picture(1, 1)),
    "row": Case(picture(97, 1), (30,) * 5, digests=True),
    "column": Case(picture(1, 130), (30,) * 5),
    "odd": Case(picture(37, 53), (28,) * 5, digests=True),
    "multiple_of_64": Case(picture(128, 64)),
    "around_64": Case(picture(65, 63), (25,) * 5),
    "grey": Case(picture(50, 41, "L"), digests=True),
    "grey16": Case(picture(33, 20, "L16"), (45,) * 5),
    "rgb16": Case(picture(40, 33, "RGB16"), (40,) * 5, digests=True),
    "rgba": Case(picture(48, 30, "RGBA")),
    "rgba16": Case(picture(20, 20, "RGBA16")),
    "grey_alpha": Case(picture(31, 17, "LA"), digests=True),
    "grey_alpha16": Case(picture(9, 21, "LA16")),
    "metadata": Case(picture(24, 16, **METADATA), digests=True),
    "saturated": Case(picture(64, 48, values=extremes(48, 64)), (50,) * 5),
    "noise": Case(picture(65, 63, values=noise(63, 65)), (60,) * 5),
    "black": Case(picture(30, 30, values=flat(0.0, 30, 30)), (63,) * 5, digests=True),
    "white16": Case(picture(30, 30, "L16", values=flat(1.0, 30, 30))),
    "rho_lowest": Case(picture(70, 66, seed=3), (0,) * 5, digests=True),
    "rho_highest": Case(picture(70, 66, seed=3), (63,) * 5, digests=True),
    "rho_mixed": Case(picture(70, 66, seed=3), (63, 0, 40, 7, 55), digests=True),
    "empty_layers": Case(picture(40, 70), (11, 22, 33, 44, 55), edit=without_layers),
    "no_fine_layers": Case(picture(64, 64, values=slope(64, 64)), (50, 30, 0, 0, 0)),
    "ignorable_parts": Case(picture(16, 12), edit=with_ignorable_parts),
    "cut_after_header": Case(picture(64, 40), digests=True, partial=True, edit=cut(0)),
    "cut_between_layers": Case(picture(90, 70, "RGBA"), digests=True, partial=True, edit=cut(3)),
    "cut_inside_layer": Case(picture(90, 70, seed=5), partial=True, edit=cut(4, more=7)),
    "trellis": Case(picture(200, 140), (30,) * 5, digests=True, model=TRELLIS),
    "trellis_grey16": Case(picture(33, 70, "L16"), (45,) * 5, model=TRELLIS),
    "trellis_rho_mixed": Case(picture(70, 66, seed=3), (63, 0, 40, 7, 55), digests=True, model=TRELLIS),
    "trellis_cut": Case(picture(90, 70, "RGBA"), (30,) * 5, partial=True, edit=cut(5, more=7), model=TRELLIS),
}


def encode(codec: Codec, case: Case) -> bytes:
    return codec.encode(case.picture, case.rho, digests=case.digests).data


def expected(name: str, case: Case, data: bytes, model: decoder.Model) -> tuple[dict[str, Any], Array]:
    """The description of a vector, and its samples with alpha."""
    whole = data
    if case.partial:  # decoder.py reads whole files: give it one without the layers that lack
        header, chunks = container.read_header(data), container.unpack(data, partial=True).chunks
        whole = container.pack(
            width=header.width, height=header.height, grey=header.grey, depth=header.depth,
            model_id=header.model_id, rho=header.rho,
            chunks=[*chunks, *[b""] * (header.n_layers - len(chunks))], in_trellis=header.in_trellis,
        )  # fmt: skip
    symbols, values = decoder.decode(whole, model)
    source = case.picture
    peak = 2**source.depth - 1
    samples = np.clip(np.round(values), 0, peak).astype(source.pixels.dtype)
    description = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "size": [source.width, source.height],
        "grey": source.is_grey,
        "depth": source.depth,
        "rho": list(case.rho),
        "partial": case.partial,
        "symbols": [zlib.crc32(plane.astype("<i2").tobytes()) for plane in symbols],
        "rmse": 0.05 if source.depth == 8 else 1.0,
        "peak": 1 if source.depth == 8 else 4,
        "source_rmse": round(float(np.sqrt(np.mean((samples - source.pixels.astype(float)) ** 2))), 3),
        "metadata": {} if case.partial else {
            name: part.hex() for name in ("icc", "exif", "xmp") if (part := getattr(source, name)) is not None
        },
    }  # fmt: skip
    if source.alpha is not None and not case.partial:
        samples = np.dstack([samples, source.alpha])
    return description, samples


def write_samples(path: Path, samples: Array) -> None:
    if samples.dtype == np.uint8:
        Image.fromarray(samples).save(path.with_suffix(".png"), optimize=True)
    else:
        np.save(path.with_suffix(".npy"), samples)


def make_vectors(only: Sequence[str]) -> None:
    VECTORS.mkdir(exist_ok=True)
    for name, case in CASES.items():
        if only and name not in only:
            continue
        data = case.edit(encode(Codec(case.model, device="cpu"), case))
        description, samples = expected(name, case, data, decoder.Model(case.model))
        (VECTORS / f"{name}.hvc").write_bytes(data)
        (VECTORS / f"{name}.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        write_samples(VECTORS / name, samples)


def too_large(codec: Codec, case: Case, *, linked: bool) -> bytes:
    """A chunk of the last layer, the only one: its first symbol in the trellis or beside it is 16384, others are 0."""
    encoder, is_done = LayerEncoder(codec.tables, codec.trellis), False

    def write(layer: int, indices: Array, positions: Array) -> Array:
        nonlocal is_done
        own = Pass(indices.reshape(-1), np.zeros(indices.size, np.int64))
        symbols, places = np.zeros(indices.size, np.int16), own.places if linked else own.scalar
        if len(places) and not is_done:
            symbols[places[0]], is_done = 16384, True
        encoder.encode_linked(symbols, own)
        return np.zeros(indices.shape, np.int16)

    present = [False, False, False, False, False, True]
    with mock.patch("hvcodec.entropy.MAX_LINKED", 32767):  # an encoder refuses to write it
        walk_prior(
            codec.model.prior,
            case.rho,
            case.picture.height,
            case.picture.width,
            present,
            write,
            linked=codec.linked_groups(True),
        )
    return encoder.chunk()


def make_bad(only: Sequence[str]) -> None:
    codec = Codec(TINY, device="cpu")
    plain = codec.encode(picture(24, 20), HIGH).data
    checked = codec.encode(picture(24, 20), HIGH, digests=True).data
    rich = codec.encode(picture(24, 20, "RGBA", **METADATA), HIGH).data
    codec, case = Codec(TRELLIS, device="cpu"), Case(picture(24, 20), (44,) * 5)
    linked = encode(codec, case)
    low = Case(picture(24, 20), (20,) * 5)  # where some symbols are almost surely zero
    beyond = {
        "trellis": (linked, too_large(codec, case, linked=True)),
        "scalar": (encode(codec, low), too_large(codec, low, linked=False)),
    }
    BAD.mkdir(exist_ok=True)
    path, index = BAD / "index.json", {}
    kept = json.loads(path.read_text(encoding="utf-8")) if only else {}
    for name, bad in bad_files.make(plain, checked, rich, linked, beyond).items():
        file = f"{name}.hvc"
        if only and name not in only:
            index[file] = kept[file]
        else:
            (BAD / file).write_bytes(bad.data)
            index[file] = bad.expectation()
    path.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    make_vectors(sys.argv[1:])
    make_bad(sys.argv[1:])
    sizes = [path.stat().st_size for folder in (VECTORS, BAD) for path in folder.iterdir()]
    print(f"{len(sizes)} files, {sum(sizes)} bytes")
