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


class CodedPass(NamedTuple):
    """The symbols of one colour of a layer's checkerboard."""

    layer: int
    colour: int  # 0 is coded first, 1 with it as context
    symbols: Array
    how: Any  # their scale indices or, in a trellis, the Pass: what their kind of tables asks for

    def bits(self, tables: Any) -> float:
        """Information content under some tables of their kind."""
        return float(tables.information_bits(self.symbols, self.how))


def tables_of(codec: Codec, file: File) -> Tables | TrellisTables | None:
    """What the symbols of a file are coded with."""
    return codec.trellis if file.header.in_trellis else codec.tables


def passes_of(codec: Codec, file: File) -> list[CodedPass]:
    """All passes of a file, in the order of coding."""
    header, found = file.header, list[CodedPass]()
    layers = codec.decode_symbols(file)

    def note(layer: int, indices: Array, positions: Array) -> Array:
        planes = layers[layer]
        _, _, columns = planes.shape
        chosen = np.take(planes.reshape(len(planes), -1), positions, axis=1)
        symbols, how = chosen.reshape(-1), indices.reshape(-1)
        if header.in_trellis:
            how = Pass.of_plane(indices, positions, columns, codec.model.config.layers[layer].stride)
            symbols, _ = how.fitted(symbols)
        row, column = divmod(int(positions[0]), columns)
        found.append(CodedPass(layer, (row + column) % 2, symbols, how))
        return chosen

    present = [bool(planes.any()) for planes in layers]
    walk_prior(codec.model.prior, header.rho, header.height, header.width, present, note, halves=header.in_trellis)
    return found
