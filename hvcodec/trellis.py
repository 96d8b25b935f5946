"""Trellis-coded quantisation: symbols whose values hang together, for less error at the same rate.

A scalar symbol k has the value k, in steps. A trellis symbol has the value k or, on the odd grid, k - sign(k)/2: two
grids of step one, half a step apart, both with a zero. Which grid counts follows from a state of five bits that the
parities of earlier symbols have set, so both sides know it. The encoder takes the cheapest path through all states:
the values of a path lie as densely as on both grids, and each costs no more than on one of them.

Symbols that are almost surely zero (scale index below FIRST) stay scalar and take no part. The others of a pass are
dealt out to lanes, of which each has a state of its own, so that all lanes go on side by side. Everything but
`search` is part of the format (docs/format.md, section 5.4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

FIRST = 8
"""Scale index from which on symbols belong to the trellis; their standard deviation is a fifth of a step."""

LANE = 256
"""Symbols of a lane, at most. The first dozens of each have little choice, so that half as many would cost a quarter of
the gain; and a decoder takes as many steps as a lane has symbols."""

MAX_LINKED = 16383
"""Of symbols in a trellis and beside it: twice their values are 16 bits."""

LARGEST_STRIDE = 8
"""Of layers in a trellis: coarser ones gain too little, and later layers build on them."""

BAND = 128
"""Planes are coded in bands of so many rows of pixels, for encoders that work in strips."""

WIDER = 1.5
"""How many scale indices wider steps are in a trellis, whose errors are smaller than those of scalar symbols."""

STATES = 32
_NEXT_TAPS, _GRID_TAPS = 0b11011, 0b01011

_PARITY = np.array([bin(number).count("1") & 1 for number in range(STATES)], np.uint8)
_FLIPS = _PARITY[np.arange(STATES) & _NEXT_TAPS]
IS_ODD = _PARITY[np.arange(STATES) & _GRID_TAPS] == 1
"""Whether symbols in a state are on the odd grid."""

NEXT = ((np.arange(STATES)[:, None] << 1 | (_FLIPS[:, None] ^ np.arange(2))) & (STATES - 1)).astype(np.uint8)
"""The state after a symbol, (state, its parity): the last five of the bits parity ^ flip."""

_FORMER = np.arange(STATES).reshape(2, STATES // 2)  # the two states before 2 j and 2 j + 1
_LAST_BIT = np.arange(2)
_BRANCH = (2 * IS_ODD[_FORMER])[:, :, None] + (_FLIPS[_FORMER][:, :, None] ^ _LAST_BIT)  # (2, j, bit): 2 odd + parity


Parities = Callable[[slice, Array], Array]
"""(which trellis symbols are next, in the order of the lanes, whether they are on the odd grid) -> their parities."""


Groups = frozenset[int]
"""Stride groups whose layers are in the trellis."""

NO_GROUPS: Groups = frozenset()


def linked_groups(strides: Iterable[int]) -> Groups:
    """The groups, of these strides, that are in the trellis of a file that has one."""
    return frozenset(group for group, stride in enumerate(strides) if stride <= LARGEST_STRIDE)


class Lanes(NamedTuple):
    """How the trellis symbols of a pass are dealt out."""

    order: Array  # their places in the pass, step by step
    lane: Array  # of each of these
    ends: tuple[int, ...]  # of the steps

    @property
    def number(self) -> int:
        """How many lanes there are: all take part in the first step."""
        return self.ends[0] if self.ends else 0


def deal(bands: Array) -> Lanes:
    """Cut the symbols of each band into lanes of about equal length, by the number of the band that each lies in."""
    integer: Any = np.int32 if len(bands) < 1 << 31 else np.int64  # passes are large: memory counts
    by_band = np.argsort(bands, kind="stable").astype(integer)
    counts = np.bincount(bands).astype(integer)
    lanes = -(-counts // LANE)
    lengths = -(-counts // np.maximum(lanes, 1))
    band = bands[by_band]
    place = np.arange(len(bands), dtype=integer) - (np.cumsum(counts, dtype=integer) - counts)[band]
    lane, step = np.divmod(place, lengths[band])
    lane += (np.cumsum(lanes, dtype=integer) - lanes)[band]
    step = step.astype(np.min_scalar_type(LANE - 1))  # bytes sort fast
    by_step = np.argsort(step, kind="stable")
    return Lanes(by_band[by_step], lane[by_step], tuple(np.cumsum(np.bincount(step)).tolist()))


class Pass:
    """One pass of coding: which symbols are scalar, and how the others hang together."""

    @classmethod
    def of_plane(cls, scale_idx: Array, positions: Array, columns: int, stride: int, first_row: int = 0) -> Pass:
        """The pass over these positions of a layer's planes, from its scale indices (Z, positions)."""
        return cls(scale_idx.reshape(-1), np.tile(bands(positions, columns, stride, first_row), len(scale_idx)))

    def __init__(self, scale_idx: Array, bands: Array) -> None:
        """Scale indices of the pass, and the number of the band that each of its symbols lies in."""
        self.scale_idx = scale_idx
        is_linked = scale_idx >= FIRST
        self.scalar = np.flatnonzero(~is_linked)
        linked = np.flatnonzero(is_linked)
        self.lanes = deal(bands[is_linked])
        self.places = linked[self.lanes.order]  # of the trellis symbols, in the order of the lanes

    def fitted(self, halves: Array) -> tuple[Array, Array]:
        """Symbols whose values are these, in half steps, and which are on the odd grid; the nearest where none are.

        Values may have been chosen in sight of other scale indices: at the seams of strips, where an analysis knows
        its surroundings only nearly.
        """
        symbols, is_odd = symbols_of(halves), np.zeros(len(halves), bool)
        symbols[self.scalar] = np.sign(halves[self.scalar]) * (np.abs(halves[self.scalar]) >> 1)
        own, wanted = symbols[self.places], halves[self.places]
        odd = self.are_odd(own)
        if ((wanted & 1 != odd) & (wanted != 0)).any():
            free = np.zeros((2, 1, 1), np.float32)
            own, odd = search(wanted * 0.5, np.ones(len(own), np.float32), free, np.zeros(len(own), int), self.lanes)
        symbols[self.places], is_odd[self.places] = own, odd
        return symbols, is_odd

    def are_odd(self, symbols: Array) -> Array:
        """Which trellis symbols are on the odd grid, both in the order of the lanes."""
        parity = symbols & 1
        return self.follow(lambda now, odd: parity[now])[0]

    def follow(self, parities: Parities) -> tuple[Array, Array]:
        """Which trellis symbols are on the odd grid, and their parities; both in the order of the lanes."""
        odd, parity = np.empty(len(self.places), bool), np.empty(len(self.places), np.uint8)
        state, begin = np.zeros(self.lanes.number, np.uint8), 0
        for end in self.lanes.ends:
            own, now = self.lanes.lane[begin:end], slice(begin, end)
            odd[now] = IS_ODD[state[own]]
            parity[now] = parities(now, odd[now])
            state[own] = NEXT[state[own], parity[now]]
            begin = end
        return odd, parity


def bands(positions: Array, columns: int, stride: int, first_row: int = 0) -> Array:
    """The number of the band that each position of a plane lies in."""
    result: Array = (positions // columns + first_row) // (BAND // stride)
    return result.astype(np.int32)


def halves_of(symbols: Array, is_odd: Array) -> Array:
    """Values in half steps."""
    halves: Array = (2 * symbols - np.sign(symbols) * is_odd).astype(np.int16)
    return halves


def symbols_of(halves: Array) -> Array:
    """Symbols of values in half steps."""
    symbols: Array = np.sign(halves) * ((np.abs(halves) + 1) >> 1)
    return symbols


def search(x: Array, weight: Array, prices: Array, row: Array, lanes: Lanes) -> tuple[Array, Array]:
    """The cheapest symbols for latents x, in steps, and which are on the odd grid; all in the order of the lanes.

    An error of one step costs `weight`, a symbol k on the even or odd grid `prices[grid, row, |k|]`.
    """
    magnitude = np.minimum(np.nan_to_num(np.abs(x)), MAX_LINKED - 2)  # what is chosen may be 2 more
    costs, choices = _branches(magnitude, weight, prices, row)
    # Lanes end at different steps; beyond its end a lane goes on at no cost, which leaves its best path what it is.
    steps, n = len(lanes.ends), lanes.number
    step = np.repeat(np.arange(steps), np.diff([0, *lanes.ends]))
    in_step = np.zeros((4, steps, n), np.float32)
    in_step[:, step, lanes.lane] = costs
    cost = np.full((STATES, n), np.inf, np.float32)
    cost[:1] = 0
    before, after = cost.reshape(2, STATES // 2, 1, n), cost.reshape(STATES // 2, 2, n)
    is_second, both = np.empty((steps, STATES // 2, 2, n), bool), np.empty((*_BRANCH.shape, n), np.float32)
    first, second = both
    for number in range(steps):
        in_step[:, number].take(_BRANCH, axis=0, out=both, mode="clip")  # all are valid, which is then not asked
        np.add(both, before, out=both)
        np.less(second, first, out=is_second[number])
        np.minimum(first, second, out=after)
    state, lane = np.empty((steps + 1, n), np.uint8), np.arange(n)
    state[-1] = cost.argmin(axis=0)
    for number in reversed(range(steps)):
        here = state[number + 1]
        chosen = is_second[number].reshape(-1).take(here.astype(np.intp) * n + lane)
        state[number] = (here >> 1) + (STATES // 2) * chosen
    former, bit = state[step, lanes.lane], state[step + 1, lanes.lane] & 1
    odd = IS_ODD[former]
    symbols = choices[2 * odd + (_FLIPS[former] ^ bit), np.arange(len(x))]
    return np.where(x < 0, -symbols, symbols), odd


def _branches(magnitude: Array, weight: Array, prices: Array, row: Array) -> tuple[Array, Array]:
    """The cheapest magnitude of each parity on each grid, and its cost: (2 odd + parity, n)."""
    costs = np.empty((4, len(magnitude)), np.float32)
    choices = np.empty((4, len(magnitude)), np.int32)
    last = prices.shape[2] - 1
    start = row.astype(np.int32) * (last + 1)
    for odd in (0, 1):
        own = prices[odd].reshape(-1)
        below = (magnitude + 0.5 * odd).astype(np.int32)
        for parity in (0, 1):
            near = below - ((below ^ parity) & 1)
            candidates = [np.maximum(near, parity), near + 2]
            if parity == 0:
                candidates.append(np.zeros_like(near))
            chosen = candidates[0]
            best = np.full(len(near), np.inf, np.float32)
            for k in candidates:
                error = magnitude - (k - 0.5 * (odd * (k > 0)))
                cost = own.take(start + np.minimum(k, last)) + weight * error * error
                chosen = np.where(cost < best, k, chosen)
                best = np.minimum(cost, best)
            costs[2 * odd + parity], choices[2 * odd + parity] = best, chosen
    return costs, choices
