"""The symbols of a file, pass by pass, as the entropy coder meets them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hvcodec import Codec
from hvcodec.container import File
from hvcodec.entropy import Tables, TrellisTables
from hvcodec.model.walk import walk_prior
from hvcodec.trellis import Pass

Array = np.ndarray[Any, np.dtype[Any]]


Kind = tuple[Tables, TrellisTables | None]
"""Tables without a trellis, and those for one."""


class CodedPass(NamedTuple):
    """The symbols of one colour of a layer's checkerboard."""

    layer: int
    colour: int  # 0 is coded first, 1 with it as context
    symbols: Array
    how: Array | Pass  # their scale indices or, in a trellis, the pass

    def bits(self, kind: Kind) -> float:
        """Information content under some tables."""
        scalar, linked = kind
        if isinstance(self.how, Pass):
            assert linked is not None
            return linked.information_bits(self.symbols, self.how)
        return scalar.information_bits(self.symbols, self.how)


def own_kind(codec: Codec) -> Kind:
    """The tables of a model."""
    return codec.tables, codec.trellis


def passes_of(codec: Codec, file: File) -> list[CodedPass]:
    """All passes of a file, in the order of coding."""
    header, found = file.header, list[CodedPass]()
    layers, linked = codec.decode_symbols(file), codec.linked_groups(header.in_trellis)

    def note(layer: int, indices: Array, positions: Array) -> Array:
        planes = layers[layer]
        _, _, columns = planes.shape
        chosen = np.take(planes.reshape(len(planes), -1), positions, axis=1)
        symbols, how, shape = chosen.reshape(-1), indices.reshape(-1), codec.model.config.layers[layer]
        if shape.group in linked:
            how = Pass.of_plane(indices, positions, columns, shape.stride)
            symbols, _ = how.fitted(symbols)
        row, column = divmod(int(positions[0]), columns)
        found.append(CodedPass(layer, (row + column) % 2, symbols, how))
        return chosen

    present = [bool(planes.any()) for planes in layers]
    walk_prior(codec.model.prior, header.rho, header.height, header.width, present, note, linked=linked)
    return found
