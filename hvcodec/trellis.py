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

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
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
_MEMORY = 5  # bits of a state
_NEXT_TAPS, _GRID_TAPS = 0b11011, 0b01011
_NEXT, _GRID = _NEXT_TAPS << 1 | 1, _GRID_TAPS << 1  # the same where the bit of the present symbol is the lowest

_PARITY = np.array([bin(number).count("1") & 1 for number in range(STATES)], np.uint8)
_FLIPS = _PARITY[np.arange(STATES) & _NEXT_TAPS]
IS_ODD = _PARITY[np.arange(STATES) & _GRID_TAPS] == 1
"""Whether symbols in a state are on the odd grid."""

NEXT = ((np.arange(STATES)[:, None] << 1 | (_FLIPS[:, None] ^ np.arange(2))) & (STATES - 1)).astype(np.uint8)
"""The state after a symbol, (state, its parity): the last five of the bits parity ^ flip."""

_FORMER = np.arange(STATES).reshape(2, STATES // 2)  # the two states before 2 j and 2 j + 1
_LAST_BIT = np.arange(2)
_BRANCH = (2 * IS_ODD[_FORMER])[:, :, None] + (_FLIPS[_FORMER][:, :, None] ^ _LAST_BIT)  # (2, j, bit): 2 odd + parity


APART = 64
"""How far apart states are as `Pass.follow` tells them: beside each there is room for all scale indices."""

Parities = Callable[[slice, Array], Array]
"""(which trellis symbols are next, in the order of the lanes, their states times APART) -> their parities."""

_AFTER = np.zeros((STATES, APART), np.intp)  # the next state, times APART too, at a state and beside it the parity
_AFTER[:, :2] = APART * NEXT.astype(np.intp)


Groups = frozenset[int]
"""Stride groups whose layers are in the trellis."""

NO_GROUPS: Groups = frozenset()

Prices = Mapping[int, Array]
"""What symbols cost in the trellis (entropy.TrellisTables.prices), by the stride groups whose layers are in it."""

NO_PRICES: Prices = MappingProxyType({})


def linked_groups(strides: Iterable[int]) -> Groups:
    """The groups, of these strides, that are in the trellis of a file that has one."""
    return frozenset(group for group, stride in enumerate(strides) if stride <= LARGEST_STRIDE)


class Lanes(NamedTuple):
    """How the trellis symbols of a pass are dealt out."""

    order: Array  # their places in the pass, step by step
    place: Array  # of each of these in an array (steps, lanes)
    number: int  # of lanes: all take part in the first step
    ends: tuple[int, ...]  # of the steps

    def of(self, marked: Array) -> tuple[Lanes, Array]:
        """The lanes in which symbols are marked, some at least, and which of all symbols lie in them."""
        step, lane = np.divmod(self.place, self.number)
        wanted = np.zeros(self.number, bool)
        wanted[lane[marked]] = True
        own = np.flatnonzero(wanted[lane])
        number, step = int(wanted.sum()), step[own]
        place = step * number + (np.cumsum(wanted) - 1)[lane[own]]
        return Lanes(self.order[own], place, number, tuple(np.cumsum(np.bincount(step)).tolist())), own


def deal(bands: Array) -> Lanes:
    """Cut the symbols of each band into lanes of about equal length, by the number of the band that each lies in."""
    integer = _integer(len(bands))
    by_band = np.argsort(bands, kind="stable").astype(integer)
    counts = np.bincount(bands)
    counts = counts[counts > 0]
    lanes = -(-counts // LANE)
    lengths = -(-counts // lanes)
    table = np.full((lengths.max(initial=0), lanes.sum()), -1, integer)
    lane = begin = 0
    for count, own, length in zip(counts.tolist(), lanes.tolist(), lengths.tolist(), strict=True):
        part = np.full(own * length, -1, integer)
        part[:count] = by_band[begin : begin + count]
        table[:length, lane : lane + own] = part.reshape(own, length).T
        lane, begin = lane + own, begin + count
    is_used = table >= 0
    place = np.flatnonzero(is_used).astype(integer)
    return Lanes(table.reshape(-1).take(place), place, table.shape[1], tuple(np.cumsum(is_used.sum(axis=1)).tolist()))


def _integer(number: int) -> Any:
    """For places among so many symbols, and twice as many: passes are large, and memory counts."""
    return np.int32 if number < 1 << 30 else np.int64


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
        integer = _integer(len(scale_idx))
        self.scalar = np.flatnonzero(~is_linked).astype(integer)
        self.lanes = deal(bands[is_linked])
        # Of the trellis symbols, in the order of the lanes.
        self.places = np.flatnonzero(is_linked).astype(integer).take(self.lanes.order)

    def fitted(self, halves: Array) -> tuple[Array, Array]:
        """Symbols whose values are these, in half steps, and which are on the odd grid; the nearest where none are.

        Values may have been chosen in sight of other scale indices: at the seams of strips, where an analysis knows
        its surroundings only nearly.
        """
        symbols, is_odd = symbols_of(halves), np.zeros(len(halves), bool)
        symbols[self.scalar] = np.sign(halves[self.scalar]) * (np.abs(halves[self.scalar]) >> 1)
        own, wanted = symbols[self.places], halves[self.places]
        odd = self.are_odd(own)
        wrong = (wanted & 1 != odd) & (wanted != 0)
        if wrong.any():
            lanes, places = self.lanes.of(wrong)
            x, free = np.float32(0.5) * wanted[places], np.zeros((2, 1, 1), np.float32)
            own[places], odd[places] = search(x, np.ones_like(x), free, np.zeros(len(x), np.uint8), lanes)
        symbols[self.places], is_odd[self.places] = own, odd
        return symbols, is_odd

    def are_odd(self, symbols: Array) -> Array:
        """Which trellis symbols are on the odd grid, both in the order of the lanes.

        For all steps at once: the bits of states are the parities divided by f(D) = 1 + D + D^2 + D^4 + D^5, where D is
        one step back. As f(D)^2 = f(D^2) for bits, 1 / f(D) = f(D) f(D^2) f(D^4) ..., up to what lies before a lane.
        """
        place = self.lanes.place
        bits = np.zeros((len(self.lanes.ends), self.lanes.number), np.uint8)
        bits.reshape(-1)[place] = symbols & 1
        back = 1
        while back < len(bits):
            bits = _with_former(bits, _NEXT, back)
            back *= 2
        return _with_former(bits, _GRID, 1).reshape(-1).take(place).view(bool)

    def follow(self, parities: Parities) -> Array:
        """The parities of trellis symbols, in the order of the lanes, each told when its state is known."""
        result = np.empty(len(self.places), np.uint8)
        states, begin = np.zeros(self.lanes.number, np.intp), 0
        for step, end in enumerate(self.lanes.ends):
            now = slice(begin, end)
            if end - begin == len(states):
                found = result[now] = parities(now, states)
                states = _AFTER.take(states + found)
            else:  # rarely: some lanes have ended
                own = self.lanes.place[now] - step * len(states)
                found = result[now] = parities(now, states[own])
                states[own] = _AFTER.take(states[own] + found)
            begin = end
        return result


def _with_former(bits: Array, taps: int, back: int) -> Array:
    """The sum of bits (steps, lanes) that lie as many times `back` steps back as the bits of `taps` say."""
    result = np.zeros_like(bits)
    for tap in range(taps.bit_length()):
        if taps >> tap & 1:
            former = bits[: max(0, len(bits) - tap * back)]
            result[len(bits) - len(former) :] ^= former
    return result


def bands(positions: Array, columns: int, stride: int, first_row: int = 0) -> Array:
    """The number of the band that each position of a plane lies in."""
    result: Array = (positions // columns + first_row) // (BAND // stride)
    return result.astype(np.min_scalar_type(result.max(initial=0)))


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
    steps, n, place = len(lanes.ends), lanes.number, lanes.place
    in_step = np.zeros((4, steps, n), np.float32)
    in_step.reshape(4, -1)[:, place] = costs
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
    # Back along the best paths: the bit that a state has lost is whether it came from the second of its former ones.
    state, lane = cost.argmin(axis=0), np.arange(n)
    bits = np.empty((steps + _MEMORY, n), np.uint8)
    bits[steps:] = state >> np.arange(_MEMORY)[::-1, None] & 1
    kept = (np.arange(STATES)[:, None] >> 1) * n + lane  # where a state with its lane comes from, but for that bit
    here = state * n + lane
    for number in reversed(range(steps)):
        is_second[number].reshape(-1).view(np.uint8).take(here, out=bits[number], mode="clip")
        here = kept.reshape(-1).take(here)
        here += np.multiply(bits[number], STATES // 2 * n, dtype=np.intp)
    odd, parity = (_with_former(bits[_MEMORY:], taps, 1).reshape(-1).take(place) for taps in (_GRID, _NEXT))
    symbols = choices.reshape(-1).take((2 * odd.astype(np.intp) + parity) * len(x) + np.arange(len(x)))
    return np.where(x < 0, -symbols, symbols), odd.view(bool)


def _branches(magnitude: Array, weight: Array, prices: Array, row: Array) -> tuple[Array, Array]:
    """The cheapest magnitude of each parity on each grid, and its cost: (2 odd + parity, n)."""
    costs = np.empty((4, len(magnitude)), np.float32)
    choices = np.empty((4, len(magnitude)), np.int32)
    last = prices.shape[2] - 1
    start = row.astype(np.intp) * (last + 1)

    def cost_of(error: Array, grid: Array, k: Array) -> Array:
        cost = error * error
        cost *= weight
        cost += grid.take(start + np.minimum(k, last))
        return cost

    for odd in (0, 1):
        grid = prices[odd].reshape(-1)
        zero = cost_of(magnitude, grid, np.zeros_like(start))
        shifted = magnitude + np.float32(0.5 * odd)  # so that k has the error shifted - k, if it is above 0
        below = shifted.astype(np.int32)
        for parity in (0, 1):
            near = np.maximum((below - parity & ~1) + parity, parity)
            error = shifted - near.astype(np.float32)
            best, further = cost_of(error, grid, near), cost_of(error - np.float32(2), grid, near + 2)
            chosen = near + 2 * (further < best)
            np.minimum(best, further, out=best)
            if parity == 0:
                chosen *= zero >= best
                np.minimum(best, zero, out=best)
            costs[2 * odd + parity], choices[2 * odd + parity] = best, chosen
    return costs, choices
