"""A decoder of trellis passes in plain integers, written from the format document; uses nothing of hvcodec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from entropy_reader import Stack, decode_blocks

FIRST = 8  # scale indices from here on are of trellis symbols
LONGEST_LANE = 256
LARGEST = 16383


@dataclass(frozen=True)
class Tables:
    """Frequencies: of even parities by grid and scale index, and by code of scalar symbols and rests."""

    evens: Sequence[Sequence[int]]
    codes: Sequence[list[int]]


def decode_pass(stack: Stack, scale_idx: Sequence[int], bands: Sequence[int], tables: Tables) -> list[int]:
    """Twice the values of a pass, from the scale index of each symbol and the band that it lies in."""
    doubled = [0] * len(scale_idx)
    scalar = [place for place, index in enumerate(scale_idx) if index < FIRST]
    found = decode_blocks(stack, tables.codes, [scale_idx[place] for place in scalar])
    for place, symbol in zip(scalar, found, strict=True):
        check(symbol)
        doubled[place] = 2 * symbol

    states: dict[tuple[int, int], int] = {}  # by band and lane
    order = coding_order(scale_idx, bands)
    grids, parities, indices = [], [], []
    for place, lane in order:
        state, scale = states.get(lane, 0), scale_idx[place] - FIRST
        odd = parity(state & 0b01011)
        even = tables.evens[odd][scale]
        p = stack.pop([256 * even, 256 * (65536 - even)])
        states[lane] = (2 * state + (p ^ parity(state & 0b11011))) % 32
        grids.append(odd)
        parities.append(p)
        indices.append(FIRST + 4 * scale + 2 * odd + p)
    rests = decode_blocks(stack, tables.codes, indices)
    for (place, _), odd, p, rest in zip(order, grids, parities, rests, strict=True):
        symbol = 2 * rest + p
        check(symbol)
        doubled[place] = 2 * symbol - odd * ((symbol > 0) - (symbol < 0))
    return doubled


def coding_order(scale_idx: Sequence[int], bands: Sequence[int]) -> list[tuple[int, tuple[int, int]]]:
    """The places of trellis symbols in the order of their parities, each with its band and lane."""
    steps = []
    for band in sorted(set(bands)):
        places = [i for i, own in enumerate(bands) if own == band and scale_idx[i] >= FIRST]
        lanes = -(-len(places) // LONGEST_LANE)
        length = -(-len(places) // max(lanes, 1))
        steps += [(i % length, band, i // length, place) for i, place in enumerate(places)]
    return [(place, (band, lane)) for _, band, lane, place in sorted(steps)]


def check(symbol: int) -> None:
    if abs(symbol) > LARGEST:
        raise ValueError("a symbol is out of range")


def parity(bits: int) -> int:
    return bits.bit_count() % 2
