"""Decode hvcodec files; written from docs/format.md, in plain integers and float64, slow; nothing of hvcodec.

It shares reader.py (section 3), entropy_reader.py (section 6) and trellis_reader.py (sections 5.4 and 6), and adds
the rest of section 5 and section 7.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from entropy_reader import Stack, decode_blocks, frequencies
from reader import read
from trellis_reader import Tables, decode_pass

Array = np.ndarray[Any, np.dtype[Any]]


class Model:
    """A model file (section 7): its configuration and its tensors by name, integers as int64, others float64."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        head = json.loads(data[8 : 8 + size])
        metadata = head.pop("__metadata__")
        assert metadata["format"] == "hvcodec-model-1"
        self.id = bytes.fromhex(metadata["id"])
        self.stages = json.loads(metadata["config"])["stages"]
        self.tensors: dict[str, Array] = {}
        for name, entry in head.items():
            first, end = (8 + size + offset for offset in entry["data_offsets"])
            kind = {"F16": "<f2", "I8": "i1", "I16": "<i2", "I32": "<i4"}[entry["dtype"]]
            values = np.frombuffer(data[first:end], kind).reshape(entry["shape"])
            self.tensors[name] = values.astype(np.float64 if kind == "<f2" else np.int64)
        t = {name: tensor.tolist() for name, tensor in self.tensors.items() if not name.startswith("transform")}
        self.frequencies = frequencies(t["tables.half_widths"], t["tables.counts"])
        self.trellis: Tables | None = None
        if "trellis.evens" in t:
            self.trellis = Tables(t["trellis.evens"], frequencies(t["trellis.half_widths"], t["trellis.counts"]))


def decode(data: bytes, model: Model) -> tuple[list[Array], Array]:
    """What the digests cover of every layer, and the samples (height, width, 3) or (height, width) before rounding."""
    fields = read(data)
    assert fields["Model_Id"] == model.id
    height, width = fields["Height"], fields["Width"]
    rows, columns = -(-height // 64), -(-width // 64)  # of the coarsest planes
    doubled = prior(fields["chunks"], fields["Rho"], model, rows, columns, fields["trellis"])
    picture = synthesis(doubled, fields["Rho"], model, rows, columns, fields["trellis"])[:, :height, :width]
    scaled = picture * (2 ** fields["depth"] - 1)
    strides = [stage["stride"] for stage in model.stages for _ in range(stage["layers"])]
    are_linked = [fields["trellis"] and stride <= 8 for stride in strides]
    digested = [planes if linked else planes // 2 for planes, linked in zip(doubled, are_linked, strict=True)]
    return digested, scaled.mean(axis=0) if fields["grey"] else np.moveaxis(scaled, 0, 2)


# --- 5.3, the prior ------------------------------------------------------------------------------------------


def prior(chunks: list[bytes], rho: list[int], model: Model, rows: int, columns: int, trellis: bool) -> list[Array]:
    """Twice the values of every layer."""
    w = {name.removeprefix("prior."): tensor for name, tensor in model.tensors.items()}

    def table(name: str) -> Array:
        return sum(w[name][g, value] for g, value in enumerate(rho))[:, None, None]  # type: ignore[no-any-return]

    doubled: list[Array] = []
    a = np.zeros((0, 0, 0), np.int64)
    for g, stage in enumerate(model.stages):
        if g == 0:
            a = np.broadcast_to(q(table("stages.0.seed")), (stage["prior_width"], rows, columns))
        else:
            rows, columns = 2 * rows, 2 * columns
            a = q(shuffle(conv(a, w[f"stages.{g}.lift"])) + table(f"stages.{g}.seed"))
        is_linked = trellis and stage["stride"] <= 8
        for i in range(stage["layers"]):
            at = f"stages.{g}.layers.{i}."
            chunk = chunks[len(doubled)]
            v = np.zeros((stage["channels"], rows, columns), np.int64)
            if chunk:
                stack = Stack(chunk)
                band = np.arange(rows)[:, None] * stage["stride"] // 128
                bands = np.broadcast_to(band, v.shape)
                even = np.add.outer(np.arange(rows), np.arange(columns)) % 2 == 0
                for name, mask in (("first", even), ("second", ~even)):
                    u = conv(a, w[at + name + ".mix"]) + table(at + name + ".rho_hidden")
                    if name == "second":
                        u = u + conv(magnitudes(v), w[at + "second.near"])
                    t = conv(q(u), w[at + name + ".out"]) + table(at + "base")
                    index = np.clip((t + (-512 if is_linked else 256)) >> 9, 0, 63)
                    if is_linked:
                        assert model.trellis
                        places = index[:, mask].ravel().tolist(), bands[:, mask].ravel().tolist()
                        found = np.array(decode_pass(stack, *places, model.trellis))
                    else:
                        found = 2 * np.array(decode_blocks(stack, model.frequencies, index[:, mask].ravel().tolist()))
                    v[:, mask] = found.reshape(len(v), -1)
                assert not stack.state and not stack.words
            doubled.append(v)
            if at + "spread" in w:
                u = conv(a, w[at + "spread"], groups=2) + conv(magnitudes(v), w[at + "near"])
                a = q(128 * a + conv(q(u + table(at + "rho_hidden")), w[at + "mix"]))
    return doubled


def q(y: Array) -> Array:
    return np.clip((y + 64) >> 7, 0, 255)


def magnitudes(doubled: Array) -> Array:
    u = np.minimum(np.concatenate([np.maximum(doubled, 0), np.maximum(-doubled, 0)]), 2 * 255) + 2  # twice that of M
    f = np.array([int(value).bit_length() - 2 for value in u.ravel()]).reshape(u.shape)
    return 8 * f + ((4 * (u - (2 << f))) >> f)


def shuffle(x: Array) -> Array:
    channels, rows, columns = x.shape
    fine = x.reshape(channels // 4, 2, 2, rows, columns).transpose(0, 3, 1, 4, 2)
    return fine.reshape(channels // 4, 2 * rows, 2 * columns)


def conv(x: Array, w: Array, groups: int = 1) -> Array:
    """A convolution padded with zeros, of x (channels, rows, columns) and w (out, in per group, 1 or 3, the same)."""
    _, rows, columns = x.shape
    reach = w.shape[2] // 2
    padded = np.pad(x, [(0, 0), (reach, reach), (reach, reach)])
    outputs, inputs = len(w) // groups, w.shape[1]
    parts = []
    for group in range(groups):
        own = padded[group * inputs : (group + 1) * inputs]
        weights = w[group * outputs : (group + 1) * outputs]
        total = np.zeros((outputs, rows, columns), x.dtype)
        for dy in range(w.shape[2]):
            for dx in range(w.shape[3]):
                total += np.tensordot(weights[:, :, dy, dx], own[:, dy : dy + rows, dx : dx + columns], 1)
        parts.append(total)
    return np.concatenate(parts)


# --- 5.5, synthesis ------------------------------------------------------------------------------------------


def synthesis(doubled: list[Array], rho: list[int], model: Model, rows: int, columns: int, trellis: bool) -> Array:
    w = {name.removeprefix("transform."): tensor for name, tensor in model.tensors.items()}

    def linear(x: Array, name: str) -> Array:
        return w[name + ".weight"] @ x + w.get(name + ".bias", 0)  # type: ignore[no-any-return]

    e = linear(2 * np.array(rho, np.float64) / 63 - 1, "embed_rho.0")
    e = linear(silu(e), "embed_rho.2")

    def block(h: Array, at: str, groups: int) -> Array:
        def per_channel(values: Array) -> Array:
            return values[:, None, None]

        y = conv(h * per_channel(w[at + "scale_in"]), w[at + "spatial.weight"], groups)
        y = silu(y + per_channel(w[at + "spatial.bias"]))
        a, b = np.split(linear(e, at + "modulate"), 2)
        y = conv(y, w[at + "expand.weight"]) + per_channel(w[at + "expand.bias"])
        y = silu(y * per_channel(1 + a) + per_channel(b))
        y = conv(y, w[at + "project.weight"]) + per_channel(w[at + "project.bias"])
        return h + per_channel(w[at + "scale_out"]) * y

    of_layer: Iterator[Array] = iter(doubled)
    h = np.broadcast_to(w["start"][:, None, None], (len(w["start"]), rows, columns))
    for g, stage in enumerate(model.stages):
        if g:
            h = spread_patches(h, w[f"rungs.{g}.up"])
        for b in range(stage["synthesis_blocks"]):
            h = block(h, f"rungs.{g}.synthesis.{b}.", stage["groups"])
        for i in range(stage["layers"]):
            at = f"rungs.{g}.latents.{i}."
            v = linear(e, at + "steps_rho").reshape(2, -1) + w[at + "steps_bias"]
            gain = np.sqrt(26) * 2 ** (-(5 + rho[g] / 6) / 2 + 0.3 * (trellis and stage["stride"] <= 8)) * np.exp(v[0])
            inward = sigmoid(v[1]) / 2
            d = next(of_layer)
            shift = inward[:, None, None] * np.sign(d) * (d % 2 == 0)
            h = h + conv(gain[:, None, None] * (d / 2 - shift), w[at + "synthesis"])
            for b in range(stage["layer_blocks"]):
                h = block(h, f"rungs.{g}.after.{i}.{b}.", stage["groups"])
    return spread_patches(h, w["head"]) + 0.5


def spread_patches(h: Array, w: Array) -> Array:
    """Transposed convolution whose stride is its size n: w is (in, out, n, n)."""
    (_, rows, columns), (_, outputs, n, _) = h.shape, w.shape
    return np.einsum("irc,ioyx->orycx", h, w).reshape(outputs, rows * n, columns * n)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def silu(x: Array) -> Array:
    return x * sigmoid(x)
