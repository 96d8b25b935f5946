"""The trellis against the format document read in plain Python, and the search against all paths there are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from hvcodec import trellis
from hvcodec.trellis import FIRST, IS_ODD, LANE, NEXT, STATES, Pass, deal, halves_of, search, symbols_of

Array = np.ndarray[Any, np.dtype[Any]]


# --- docs/format.md, section 5.4, in plain Python -------------------------------------------------------------


def ones_are_odd(bits: int) -> int:
    return bin(bits).count("1") % 2


def grid_is_odd(state: int) -> bool:
    return ones_are_odd(state & 0b01011) == 1


def next_state(state: int, parity: int) -> int:
    return (2 * state + (parity ^ ones_are_odd(state & 0b11011))) % 32


def value(k: int, is_odd: bool) -> float:
    return 0.0 if k == 0 else k - 0.5 * is_odd if k > 0 else k + 0.5 * is_odd


def steps_and_lanes(bands: Sequence[int], longest: int = LANE) -> list[tuple[int, int, int]]:
    """(step, band, lane of the band) of each symbol."""
    counts = {band: bands.count(band) for band in bands}
    seen = dict.fromkeys(bands, 0)
    result = []
    for band in bands:
        i, q = seen[band], -(-counts[band] // -(-counts[band] // longest))
        seen[band] += 1
        result.append((i % q, band, i // q))
    return result


def odd_by_hand(symbols: Sequence[int], bands: Sequence[int], longest: int = LANE) -> list[bool]:
    """Which symbols of a pass are on the odd grid; all are trellis symbols."""
    states: dict[tuple[int, int], int] = {}
    result = []
    for k, (_, *lane) in zip(symbols, steps_and_lanes(bands, longest), strict=True):
        state = states.get(tuple(lane), 0)
        result.append(grid_is_odd(state))
        states[tuple(lane)] = next_state(state, k % 2)
    return result


def linked(bands: Array) -> Pass:
    """A pass of trellis symbols alone."""
    return Pass(np.full(len(bands), FIRST, np.uint8), bands)


# --- states and lanes -----------------------------------------------------------------------------------------


def test_states_are_those_of_the_document() -> None:
    assert NEXT.shape == (STATES, 2) == (32, 2)
    assert IS_ODD.tolist() == [grid_is_odd(state) for state in range(32)]
    assert NEXT.tolist() == [[next_state(state, parity) for parity in (0, 1)] for state in range(32)]


def interleaved(n: int, n_bands: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, n_bands, n)


BANDS = [
    np.zeros(0, np.int64),
    *(np.zeros(n, np.int64) for n in (1, 2, 127, 128, 129, 256, 257, 1000)),
    np.repeat([0, 1, 2], [128, 129, 1]),
    np.tile(np.repeat([0, 1], [70, 30]), 5),  # channels one after the other
    np.array([7, 3, 7, 9]),  # numbers that lack
    interleaved(500, 2),
    interleaved(2000, 5),
    interleaved(300, 300),
]


@pytest.mark.parametrize("bands", BANDS, ids=lambda bands: f"{len(bands)} in {len(set(bands.tolist()))}")
def test_symbols_are_dealt_out_as_in_the_document(bands: Array) -> None:
    placed = steps_and_lanes(bands.tolist())
    # Step by step; in a step band by band, lane by lane.
    order = sorted(range(len(bands)), key=lambda place: placed[place])
    lanes = deal(bands)
    assert lanes.order.tolist() == order
    names = sorted({place[1:] for place in placed})
    assert (lanes.place % max(lanes.number, 1)).tolist() == [names.index(placed[place][1:]) for place in order]
    assert lanes.number == len(names)
    assert list(lanes.ends) == [
        sum(place[0] <= step for place in placed) for step in range(1 + max((p[0] for p in placed), default=-1))
    ]


def test_lanes_are_short_and_have_a_symbol_at_most_in_each_step() -> None:
    lanes = deal(interleaved(5000, 3))
    assert np.bincount(lanes.place % lanes.number).max() <= LANE
    for begin, end in itertools.pairwise((0, *lanes.ends)):
        assert len(set(lanes.place[begin:end].tolist())) == end - begin


@pytest.mark.parametrize("bands", BANDS, ids=len)
def test_grids_follow_from_the_parities_before(bands: Array) -> None:
    symbols = np.random.default_rng(1).integers(-5, 6, len(bands)).astype(np.int16)
    one = linked(bands)
    odd = np.empty(len(bands), bool)
    odd[one.places] = one.are_odd(symbols[one.places])
    assert odd.tolist() == odd_by_hand(symbols.tolist(), bands.tolist())


def test_strides_of_8_and_4_are_in_a_trellis() -> None:
    assert trellis.linked_groups([64, 32, 16, 8, 4]) == {3, 4}
    assert trellis.linked_groups([8, 16]) == {0}
    assert trellis.linked_groups([32]) == set()


def test_rows_belong_to_bands_of_128_pixels() -> None:
    positions = np.arange(0, 5 * 90, 2)
    for stride in (8, 4):
        for first_row in (0, 3):
            bands = trellis.bands(positions, 5, stride, first_row)
            assert bands.tolist() == [(p // 5 + first_row) * stride // 128 for p in positions]


# --- symbols and values ---------------------------------------------------------------------------------------


def test_values_are_those_of_the_document() -> None:
    symbols = np.arange(-16383, 16384, dtype=np.int16)
    for is_odd in (False, True):
        halves = halves_of(symbols, np.full(len(symbols), is_odd))
        assert halves.dtype == np.int16
        assert halves.tolist() == [2 * value(k, is_odd) for k in symbols.tolist()]
        back = symbols_of(halves)
        assert back.dtype == np.int16
        np.testing.assert_array_equal(back, symbols)


# --- the search -----------------------------------------------------------------------------------------------


def lowest_cost(x: Sequence[float], weight: Sequence[float], prices: Array, rows: Sequence[int]) -> float:
    """Of a lane, over all paths: parities tell the grids, and of its parity each symbol takes what is cheapest."""
    last = prices.shape[2] - 1

    def cost(i: int, k: int, is_odd: bool) -> float:
        return float(prices[int(is_odd), rows[i], min(k, last)]) + weight[i] * (abs(x[i]) - value(k, is_odd)) ** 2

    most = int(max(map(abs, x), default=0)) + 4
    lowest = np.inf
    for parities in itertools.product((0, 1), repeat=len(x)):
        state, total = 0, 0.0
        for i, parity in enumerate(parities):
            total += min(cost(i, k, grid_is_odd(state)) for k in range(parity, most, 2))
            state = next_state(state, parity)
        lowest = min(lowest, total)
    return lowest


def check_search(x: Array, weight: Array, prices: Array, row: Array, bands: Array) -> None:
    """The cost of what is found is the lowest, and it is a path."""
    one = linked(bands)
    order, lanes = one.lanes.order, one.lanes
    symbols, odd = search(x[order], weight[order], prices, row[order], lanes)
    np.testing.assert_array_equal(odd, one.are_odd(symbols))
    assert (symbols * x[order] >= 0).all()
    values = [value(k, is_odd) for k, is_odd in zip(symbols.tolist(), odd.tolist(), strict=True)]
    last = prices.shape[2] - 1
    spent = prices[odd.astype(int), row[order], np.minimum(np.abs(symbols), last)]
    costs = spent + weight[order] * (x[order] - values) ** 2
    for lane in range(lanes.number):
        own = lanes.place % lanes.number == lane
        places = order[own]
        lowest = lowest_cost(x[places].tolist(), weight[places].tolist(), prices, row[places].tolist())
        assert costs[own].sum() == pytest.approx(lowest, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("seed", range(20))
def test_the_search_finds_the_cheapest_of_all_paths(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several lanes at once, one or more to a band. Of magnitudes below 2.5 all that can pay are looked at."""
    monkeypatch.setattr(trellis, "LANE", 6)
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    prices = np.cumsum(rng.exponential(rng.choice([0.1, 1.0, 5.0]), (2, 3, 8)), axis=2).astype(np.float32)
    x = rng.uniform(-2.49, 2.49, n).astype(np.float32)
    weight = rng.exponential(rng.choice([0.5, 3.0]), n).astype(np.float32)
    check_search(x, weight, prices, rng.integers(0, 3, n), rng.integers(0, 4, n))


@pytest.mark.parametrize("seed", range(5))
def test_the_search_finds_the_nearest_values_where_symbols_are_free(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trellis, "LANE", 6)
    rng = np.random.default_rng(seed)
    x = (rng.normal(0, 20, 30) * rng.integers(0, 2, 30)).astype(np.float32)
    free = np.zeros((2, 1, 1), np.float32)
    check_search(x, np.ones(30, np.float32), free, np.zeros(30, int), rng.integers(0, 3, 30))


def test_the_search_has_less_error_than_rounding_to_one_grid() -> None:
    """What all this is for: at high rate the error of a scalar symbol is 1/12, of these 1 dB less and more."""
    x = np.random.default_rng(2).uniform(-50, 50, 20_000).astype(np.float32)
    one = linked(np.zeros(len(x), int))
    free = np.zeros((2, 1, 41), np.float32)
    symbols, odd = search(x, np.ones(len(x), np.float32), free, np.zeros(len(x), int), one.lanes)
    error = float(np.square(x - halves_of(symbols, odd) / 2).mean())
    assert error < 10**-0.1 / 12


def test_nothing_to_search() -> None:
    none = np.zeros(0, np.float32)
    symbols, odd = search(none, none, np.zeros((2, 1, 1), np.float32), np.zeros(0, int), deal(np.zeros(0, int)))
    assert len(symbols) == len(odd) == 0


def test_no_symbol_is_larger_than_the_format_allows() -> None:
    x = np.random.default_rng(3).choice([16383.0, -16383.0, 16382.5, 16382.0, 1e6], 500).astype(np.float32)
    one = linked(np.zeros(len(x), int))
    free = np.zeros((2, 1, 1), np.float32)
    symbols, odd = search(x, np.ones(len(x), np.float32), free, np.zeros(len(x), int), one.lanes)
    assert np.abs(symbols).max() <= 16383
    assert np.abs(symbols).min() >= 16380
    np.testing.assert_array_equal(np.sign(halves_of(symbols, odd)), np.sign(x))


@pytest.mark.parametrize("price", [0.0, 1.0, np.inf, np.nan])
def test_latents_and_prices_that_are_no_numbers_give_symbols_all_the_same(price: float) -> None:
    """Weights may be sound and what a network computes with them not."""
    x = np.random.default_rng(4).choice([np.nan, np.inf, -np.inf, 0.3], 300).astype(np.float32)
    prices = np.full((2, 1, 8), price, np.float32)
    symbols, _ = search(x, np.ones(len(x), np.float32), prices, np.zeros(len(x), int), deal(np.zeros(len(x), int)))
    assert np.abs(symbols).max() <= 16383


# --- values that no path has ----------------------------------------------------------------------------------


def mixed_pass(seed: int, n: int = 600) -> Pass:
    """Scalar and trellis symbols side by side in three bands."""
    rng = np.random.default_rng(seed)
    return Pass(rng.integers(FIRST - 5, FIRST + 8, n).astype(np.uint8), interleaved(n, 3, seed))


def values_of_a_path(one: Pass, seed: int) -> tuple[Array, Array, Array]:
    """Random symbols, their grids and values."""
    symbols = np.random.default_rng(seed).integers(-4, 5, len(one.scale_idx)).astype(np.int16)
    is_odd = np.zeros(len(symbols), bool)
    is_odd[one.places] = one.are_odd(symbols[one.places])
    return symbols, is_odd, halves_of(symbols, is_odd)


def test_a_pass_knows_its_scalar_symbols() -> None:
    one = mixed_pass(0)
    np.testing.assert_array_equal(one.scalar, np.flatnonzero(one.scale_idx < FIRST))
    np.testing.assert_array_equal(np.sort(one.places), np.flatnonzero(one.scale_idx >= FIRST))
    bands = interleaved(600, 3)[one.scale_idx >= FIRST].tolist()
    placed = steps_and_lanes(bands)  # scalar symbols do not count
    order = sorted(range(len(bands)), key=lambda place: placed[place])
    np.testing.assert_array_equal(one.places, np.flatnonzero(one.scale_idx >= FIRST)[order])


@pytest.mark.parametrize("seed", range(3))
def test_values_of_a_path_stay_as_they_are(seed: int) -> None:
    one = mixed_pass(seed)
    symbols, is_odd, halves = values_of_a_path(one, seed)
    before = halves.copy()
    found, found_odd = one.fitted(halves)
    np.testing.assert_array_equal(found, symbols)
    np.testing.assert_array_equal(found_odd, is_odd)
    np.testing.assert_array_equal(halves, before)
    assert found.dtype == np.int16


@pytest.mark.parametrize("seed", range(3))
def test_values_that_no_path_has_become_near_ones(seed: int) -> None:
    one = mixed_pass(seed)
    wanted = np.random.default_rng(seed).integers(-9, 10, len(one.scale_idx)).astype(np.int16)
    symbols, is_odd = one.fitted(wanted)
    assert symbols.dtype == np.int16
    np.testing.assert_array_equal(is_odd[one.places], one.are_odd(symbols[one.places]))
    assert not is_odd[one.scalar].any()
    error = halves_of(symbols, is_odd) - wanted
    assert np.abs(error[one.scalar]).max() <= 1
    # Whoever takes the nearest on the grid of each state is wrong by half a step in half of all cases.
    assert np.square(error[one.places]).mean() < 0.5


def test_lanes_with_right_values_are_left_when_another_is_repaired() -> None:
    one = mixed_pass(4)
    symbols, is_odd, halves = values_of_a_path(one, 4)
    lane = one.lanes.place % one.lanes.number
    broken = one.places[lane == 1]
    halves[broken[20]] ^= 1
    found, found_odd = one.fitted(halves)
    assert not np.array_equal(halves_of(found, found_odd)[broken], halves[broken])
    others = np.setdiff1d(np.arange(len(halves)), broken)
    np.testing.assert_array_equal(found[others], symbols[others])
    np.testing.assert_array_equal(found_odd[others], is_odd[others])


def test_the_ends_of_all_values_can_be_repaired() -> None:
    one = linked(np.zeros(100, int))
    symbols, is_odd = one.fitted(np.tile([32766, 32765, -32766, 32766], 25).astype(np.int16))
    np.testing.assert_array_equal(is_odd, one.are_odd(symbols))
    assert np.abs(symbols).max() <= 16383
