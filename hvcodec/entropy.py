"""Symbols and scale indices to bytes and back: one chunk per layer, exact on every machine.

Every symbol is coded with one of 64 integer frequency tables, chosen by its scale index, on an ANS
coder (asymmetric numeral systems). This is the only module that knows constriction, and no exception
of constriction's leaves it. The format document specifies each step here that decides about bytes.

ANS and not the range coder of the same library, because most symbols of a photograph are zeros that
are nearly certain: on those the range coder spends up to 3 % more than the information content, ANS
0.03 %. It also decodes faster, ends in a state that shows damage, and turns zeros alone into no bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import constriction  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from hvcodec.errors import CorruptError
from hvcodec.trellis import APART, FIRST, IS_ODD, MAX_LINKED, STATES, Pass

_AnsCoder = constriction.stream.stack.AnsCoder
_Categorical = constriction.stream.model.Categorical
_Uniform = constriction.stream.model.Uniform

_N_TABLES = 64
_MAX_TABLES = 256
SCALES: NDArray[np.float64] = 2.0 ** ((np.arange(_N_TABLES) - 20) / 5)
"""Standard deviation that scale index i stands for, in symbol units."""
SCALES.setflags(write=False)

MAX_SYMBOL = 32767  # -32768 is not a symbol
MAX_HALF_WIDTH = 1023
HISTOGRAM_REACH = MAX_HALF_WIDTH + 1
_TOTAL = 1 << 16  # sum of the counts of a table
_BLOCK = 1 << 18  # symbols that are grouped by scale index at a time: fastest, and bounds the memory


def _categorical(counts: NDArray[np.integer[Any]]) -> Any:
    """Model whose 24-bit cumulative frequencies are exactly 256 times those of `counts`.

    With perfect=False constriction gives entry j of n the cumulative frequency
    floor(sum(w[:j]) * (2**24 - n) / sum(w)) + j. The weights 256 * counts - 1 sum to 2**24 - n, so
    the factor is 1.0 and the result is 256 * sum(counts[:j]): no rounding anywhere.
    """
    return _Categorical(counts * 256.0 - 1.0, perfect=False)


_PAIR = _Categorical(perfect=False)  # of two entries; weights as for _categorical are given with the values
_UNIFORM = _Uniform()  # sizes are given with the values; powers of two, hence exact
_ESCAPE_CLASSES = 15
_CLASS_MODEL = _categorical(np.array([1 << (15 - m) for m in range(_ESCAPE_CLASSES - 1)] + [4]))


# Probabilities of 0..t standard deviations, odd functions.


def _gaussian(t: float) -> float:
    return 0.5 * math.erf(t / math.sqrt(2))


def _logistic(t: float) -> float:
    return 0.5 * math.tanh(t * math.pi / math.sqrt(12))


@dataclass(frozen=True, eq=False)
class Tables:
    """The frequency tables of a model, 64 for scalar symbols; immutable, checked, and safe to share between threads.

    Table i covers the symbols -K..K with K = half_widths[i], and ESCAPE as its last entry. `counts`
    holds the tables one after the other. Raises ValueError with the reason if they cannot be used.
    """

    half_widths: NDArray[np.int32]  # (tables,), each 1..1023
    counts: NDArray[np.int32]  # (sum(2 * half_widths + 2),), each >= 1, 2**16 per table
    _starts: NDArray[np.int64] = field(init=False, repr=False)
    _models: tuple[Any, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        half_widths = _integers("half_widths", self.half_widths)
        counts = _integers("counts", self.counts)
        if half_widths.ndim != 1 or not 1 <= len(half_widths) <= _MAX_TABLES:
            raise ValueError(f"half_widths has shape {half_widths.shape}; 1 to {_MAX_TABLES} numbers are needed")
        if half_widths.min() < 1 or half_widths.max() > MAX_HALF_WIDTH:
            low, high = half_widths.min(), half_widths.max()
            raise ValueError(f"half_widths lie within {low}..{high}, not within 1..{MAX_HALF_WIDTH}")
        ends = np.cumsum(2 * half_widths + 2)
        if counts.shape != (ends[-1],):
            raise ValueError(f"counts has shape {counts.shape}; the half_widths ask for {ends[-1]} numbers")
        if counts.min() < 1:
            raise ValueError(f"counts holds {counts.min()}; every entry must be at least 1")
        starts = np.concatenate([[0], ends[:-1]])
        sums = np.add.reduceat(counts, starts)
        if (sums != _TOTAL).any():
            bad = int(np.flatnonzero(sums != _TOTAL)[0])
            raise ValueError(f"table {bad} sums to {sums[bad]}, not to {_TOTAL}")
        models = tuple(
            _categorical(counts[start:end][_coding_order(int(half_width))])
            for start, end, half_width in zip(starts, ends, half_widths, strict=True)
        )
        for name, array in (("half_widths", half_widths), ("counts", counts)):
            frozen = array.astype(np.int32)
            frozen.setflags(write=False)
            object.__setattr__(self, name, frozen)
        object.__setattr__(self, "_starts", starts)
        object.__setattr__(self, "_models", models)

    def __reduce__(self) -> tuple[type[Tables], tuple[NDArray[np.int32], NDArray[np.int32]]]:
        return Tables, (self.half_widths, self.counts)  # constriction's models cannot be copied

    @classmethod
    def gaussian(cls) -> Tables:
        """Tables of normal distributions with the standard deviations SCALES."""
        return cls._parametric(_gaussian)

    @classmethod
    def logistic(cls) -> Tables:
        """Tables of logistic distributions (heavier tails) with the standard deviations SCALES."""
        return cls._parametric(_logistic)

    @classmethod
    def _parametric(cls, centred_cdf: Callable[[float], float]) -> Tables:
        half_widths = np.clip(np.ceil(6 * SCALES), 1, MAX_HALF_WIDTH).astype(np.int32)
        tables = []
        for half_width, scale in zip(half_widths, SCALES, strict=True):
            edges = [centred_cdf((k + 0.5) / scale) for k in range(-half_width - 1, half_width + 1)]
            tables.append(_quantize(np.append(np.diff(edges), 1 + edges[0] - edges[-1])))
        return cls(half_widths, np.concatenate(tables))

    @classmethod
    def fit(cls, histograms: NDArray[Any], *, prior: Tables | None = None, weight: float = 4.0) -> Tables:
        """Tables fitted to what `histogram()` counted, with the half widths of the prior.

        The prior (default: logistic) counts as `weight` observations per entry, so that it decides
        where little was seen and is forgotten where much was.
        """
        histograms = np.asarray(histograms, dtype=np.float64)
        prior = cls.logistic() if prior is None else prior
        shape = (len(prior.half_widths), 2 * HISTOGRAM_REACH + 1)
        if histograms.shape != shape:
            raise ValueError(f"histograms have shape {histograms.shape}, not {shape}")
        if not np.isfinite(histograms).all() or histograms.min() < 0 or not weight > 0:
            raise ValueError("histograms must be finite and not negative, and weight positive")
        tables = []
        for index, observed in enumerate(histograms):
            expected = prior.table(index)
            reach = int(prior.half_widths[index])
            inside = observed[HISTOGRAM_REACH - reach : HISTOGRAM_REACH + reach + 1]
            seen = np.append(inside, observed.sum() - inside.sum())
            tables.append(_quantize(seen + expected * (weight * len(expected) / _TOTAL)))
        return cls(prior.half_widths, np.concatenate(tables))

    def table(self, index: int) -> NDArray[np.int32]:
        """Counts of table `index`: the symbols -K..K, then ESCAPE."""
        start = int(self._starts[index])
        return self.counts[start : start + 2 * int(self.half_widths[index]) + 2]

    def information_bits(self, symbols: NDArray[np.int16], scale_idx: NDArray[np.uint8]) -> float:
        """Information content of the symbols under these tables, escapes included, in bits."""
        _check_symbols(symbols, scale_idx, len(self.half_widths))
        half_widths = self.half_widths[scale_idx]
        codes = _zigzag(symbols).astype(np.int32)
        outside = codes > 2 * half_widths
        entries = np.where(outside, 2 * half_widths + 1, symbols + half_widths) + self._starts[scale_idx]
        bits = float((16.0 - np.log2(self.counts))[entries].sum())
        if outside.any():
            rests = codes[outside] - (2 * half_widths[outside] + 1)
            classes, sizes, _ = _split_escapes(rests, _escape_order(half_widths[outside]))
            bits += float((np.minimum(classes + 1, _ESCAPE_CLASSES - 1) + np.log2(sizes)).sum())
        return bits


def histogram(symbols: NDArray[np.int16], scale_idx: NDArray[np.uint8], n_tables: int = _N_TABLES) -> NDArray[np.int64]:
    """How often each symbol came with each scale index, for `Tables.fit`; sums of these may be fitted.

    Row i, column k + 1024 counts symbol k with scale index i; what lies beyond counts as -1024 or 1024,
    outside every table.
    """
    _check_symbols(symbols, scale_idx, n_tables)
    width = 2 * HISTOGRAM_REACH + 1
    columns = np.clip(symbols, -HISTOGRAM_REACH, HISTOGRAM_REACH).astype(np.int32) + HISTOGRAM_REACH
    cells = np.bincount(columns + width * scale_idx.astype(np.int32), minlength=n_tables * width)
    return cells.reshape(n_tables, width).astype(np.int64)


@dataclass(frozen=True, eq=False)
class TrellisTables:
    """Frequencies of symbols beside and in a trellis: those of the latter tell first whether they are even."""

    evens: NDArray[np.int32]  # (2, 64 - FIRST): of 2**16, for the even and the odd grid and each scale index
    tables: Tables  # of scalar symbols by scale index, then those of k >> 1, see rests_index

    def __post_init__(self) -> None:
        evens = _integers("evens", self.evens)
        if evens.shape != (2, _N_TABLES - FIRST) or evens.min() < 1 or evens.max() >= _TOTAL:
            raise ValueError(f"evens must be {(2, _N_TABLES - FIRST)} numbers within 1..{_TOTAL - 1}")
        if len(self.tables.half_widths) != TRELLIS_TABLES:
            raise ValueError(f"{TRELLIS_TABLES} tables of a trellis are needed, not {len(self.tables.half_widths)}")
        frozen = evens.astype(np.int32)
        frozen.setflags(write=False)
        object.__setattr__(self, "evens", frozen)

    @classmethod
    def gaussian(cls) -> TrellisTables:
        """Frequencies of normal distributions, each bin as wide as what lies nearest to its value."""
        return cls._parametric(Tables.gaussian(), _gaussian)

    @classmethod
    def logistic(cls) -> TrellisTables:
        """Frequencies of logistic distributions, each bin as wide as what lies nearest to its value."""
        return cls._parametric(Tables.logistic(), _logistic)

    @classmethod
    def _parametric(cls, scalar: Tables, centred_cdf: Callable[[float], float]) -> TrellisTables:
        evens = np.empty((2, _N_TABLES - FIRST), np.int32)
        half_widths: list[int] = scalar.half_widths[:FIRST].tolist()
        counts: list[NDArray[Any]] = [scalar.table(index) for index in range(FIRST)]
        for row, scale in enumerate(SCALES[FIRST:]):
            half_width = int(np.clip(np.ceil(3 * scale) + 1, 1, MAX_HALF_WIDTH))
            reach = 2 * half_width + 1
            k = np.arange(-reach, reach + 1)
            for odd in (0, 1):
                edges = np.abs(k) + np.array([[-0.5], [0.5]])
                if odd:
                    edges = np.where(k == 0, [[-0.25], [0.25]], np.where(np.abs(k) == 1, [[0.25], [1.0]], edges - 0.5))
                low, high = np.vectorize(centred_cdf)(edges / scale)
                mass = high - low
                even = mass[k % 2 == 0].sum() / mass.sum()
                evens[odd, row] = np.clip(np.rint(even * _TOTAL), 1, _TOTAL - 1)
                for parity in (0, 1):
                    own = np.array([mass[k == 2 * r + parity].sum() for r in range(-half_width, half_width + 1)])
                    half_widths.append(half_width)
                    counts.append(_quantize(np.append(own / own.sum(), 1e-6)))
        return cls(evens, Tables(np.array(half_widths), np.concatenate(counts)))

    @classmethod
    def fit(cls, parities: NDArray[Any], histograms: NDArray[Any]) -> TrellisTables:
        """Frequencies fitted to what was counted: (2, 64 - FIRST, 2) parities by grid, and a histogram by table."""
        prior = cls.logistic()
        expected = np.stack([prior.evens, _TOTAL - prior.evens], axis=-1) * (8 / _TOTAL)
        seen = parities + expected
        evens = np.clip(np.rint(seen[..., 0] / seen.sum(axis=-1) * _TOTAL), 1, _TOTAL - 1).astype(np.int32)
        return cls(evens, Tables.fit(histograms, prior=prior.tables))

    def information_bits(self, symbols: NDArray[np.int16], linked: Pass) -> float:
        """Information content of the symbols of a pass under these tables, escapes included, in bits."""
        own, row = symbols[linked.places], linked.scale_idx[linked.places]
        odd, parity = linked.are_odd(own).view(np.uint8), own & 1
        evens = self.evens[odd, row - FIRST]
        bits = float((16.0 - np.log2(np.where(parity == 0, evens, _TOTAL - evens))).sum())
        bits += self.tables.information_bits(own >> 1, rests_index(row, odd, parity).astype(np.uint8))
        return bits + self.tables.information_bits(symbols[linked.scalar], linked.scale_idx[linked.scalar])

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """Of an even and an odd symbol, for the coder: (2, 64 - FIRST, 2)."""
        return np.stack([self.evens, _TOTAL - self.evens], axis=-1) * 256.0 - 1.0

    @cached_property
    def weights_of_states(self) -> NDArray[np.float64]:
        """The same for each state of the trellis, whose number times APART the scale index is added to."""
        rows = np.ones((STATES, APART, 2))
        rows[:, FIRST:] = self.weights[IS_ODD.astype(np.intp)]
        return rows.reshape(-1, 2)

    @cached_property
    def prices(self) -> NDArray[np.float32]:
        """Bits of a symbol of magnitude 0..PRICED on the even and the odd grid: (2, 64, PRICED + 1)."""
        result = np.zeros((2, _N_TABLES, PRICED + 1), np.float32)
        for odd in (0, 1):
            for row in range(_N_TABLES - FIRST):
                shares = np.array([self.evens[odd, row], _TOTAL - self.evens[odd, row]])
                for k in range(PRICED + 1):
                    index = int(rests_index(row + FIRST, odd, k % 2))
                    half_width = int(self.tables.half_widths[index])
                    place = min(k // 2, half_width) + half_width
                    bits = 32 - np.log2(shares[k % 2]) - np.log2(self.tables.table(index)[place])
                    result[odd, row + FIRST, k] = bits
        return result


def rests_index(scale_idx: Any, odd: Any, parity: Any) -> Any:
    """The table of k >> 1 for trellis symbols."""
    return FIRST + 4 * (scale_idx - FIRST) + 2 * odd + parity


TRELLIS_TABLES = FIRST + 4 * (_N_TABLES - FIRST)

PRICED = 40
"""Magnitudes that have a price of their own; beyond them one more costs about nothing."""


class LayerEncoder:
    """Collects the symbols of one layer, pass by pass, and writes them as one chunk."""

    def __init__(self, tables: Tables, trellis: TrellisTables | None = None) -> None:
        self._tables, self._trellis = tables, trellis
        self._runs: list[Callable[[Any], None]] = []  # in the order of decoding

    def encode(self, symbols: NDArray[np.int16], scale_idx: NDArray[np.uint8]) -> None:
        """Add one pass: flat arrays of equal length, symbols within -32767..32767, indices below 64.

        Raises TypeError for another type of array and ValueError for another shape or value.
        """
        _check_symbols(symbols, scale_idx)
        self._add(self._tables, symbols, scale_idx)

    def encode_linked(self, symbols: NDArray[np.int16], linked: Pass) -> None:
        """Add one pass of which some symbols hang together in a trellis, those within -16383..16383."""
        assert self._trellis is not None
        if symbols.size and (symbols.min() < -MAX_LINKED or symbols.max() > MAX_LINKED):
            raise ValueError(f"symbols in a trellis and beside it must lie within -{MAX_LINKED}..{MAX_LINKED}")
        _check_symbols(symbols, linked.scale_idx)
        self._add(self._trellis.tables, symbols[linked.scalar], linked.scale_idx[linked.scalar])
        own = symbols[linked.places]
        odd, parity, row = linked.are_odd(own), own & 1, linked.scale_idx[linked.places]
        weights = self._trellis.weights[odd.view(np.uint8), row - FIRST]
        self._runs.append(partial(_push_parities, parity.astype(np.int32), weights))
        self._add(self._trellis.tables, own >> 1, rests_index(row, odd, parity).astype(np.uint8))

    def _add(self, tables: Tables, symbols: NDArray[np.int16], indices: NDArray[np.uint8]) -> None:
        codes = _zigzag(symbols)
        for start, order, runs in _blocks(indices):
            grouped = codes[start : start + len(order)].take(order)
            self._runs.extend(partial(_push, tables, index, grouped[run]) for index, run in runs)

    def chunk(self) -> bytes:
        """The chunk of all passes so far; b"" if all symbols were zero."""
        coder = _AnsCoder()
        with _door(RuntimeError):
            for push in reversed(self._runs):  # ANS is a stack
                push(coder)
            words = coder.get_compressed()
        # All frequencies are multiples of 256, so the first byte is 0. The last word is never 0, so that
        # padding to whole words restores the zero bytes cut from the end.
        return bytes(words.astype("<u4").tobytes().rstrip(b"\0")[1:])


def _push(tables: Tables, index: int, coded: NDArray[np.uint16], coder: Any) -> None:
    codes = coded.astype(np.int32)
    half_width = int(tables.half_widths[index])
    escape = 2 * half_width + 1
    if codes.max() >= escape:
        rests = codes[codes >= escape] - escape
        classes, sizes, values = _split_escapes(rests, _escape_order(half_width))
        coder.encode_reverse(values, _UNIFORM, sizes)
        coder.encode_reverse(classes, _CLASS_MODEL)
        codes = np.minimum(codes, escape)
    coder.encode_reverse(codes, tables._models[index])


def _push_parities(parities: NDArray[np.int32], weights: NDArray[np.float64], coder: Any) -> None:
    if len(parities):
        coder.encode_reverse(parities, _PAIR, weights)


class LayerDecoder:
    """Reads the symbols of one layer from its chunk, pass by pass.

    Raises CorruptError if no encoder writes such a chunk, TypeError if it is not bytes.
    """

    def __init__(self, chunk: bytes, tables: Tables, trellis: TrellisTables | None = None) -> None:
        if not isinstance(chunk, bytes):
            raise TypeError(f"a chunk is bytes, not {type(chunk).__name__}")
        if chunk.endswith(b"\0"):
            raise CorruptError("a chunk ends in a zero byte, which an encoder would have left out")
        data = b"\0" + chunk if chunk else b""
        words = np.frombuffer(data + bytes(-len(data) % 4), "<u4").astype(np.uint32)
        with _door(CorruptError):
            self._coder = _AnsCoder(words)
        self._tables, self._trellis = tables, trellis

    def decode(self, scale_idx: NDArray[np.uint8]) -> NDArray[np.int16]:
        """Symbols of the next pass, one for each scale index.

        Raises CorruptError where the chunk holds no symbol; most damage shows in `finish` only.
        Raises TypeError and ValueError as `LayerEncoder.encode` does.
        """
        _check_scale_idx(scale_idx)
        return self._read(self._tables, scale_idx)

    def decode_linked(self, linked: Pass) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
        """Symbols of the next pass of which some hang together in a trellis, and which are on the odd grid."""
        assert self._trellis is not None
        symbols, is_odd = np.zeros(len(linked.scale_idx), np.int16), np.zeros(len(linked.scale_idx), bool)
        tables = self._trellis.tables
        symbols[linked.scalar] = _within_linked(self._read(tables, linked.scale_idx[linked.scalar]))
        if self._coder.is_empty():
            return symbols, is_odd
        row, weights = linked.scale_idx[linked.places], self._trellis.weights_of_states

        def parities(now: slice, states: NDArray[np.intp]) -> NDArray[np.int32]:
            found: NDArray[np.int32] = self._coder.decode(_PAIR, weights.take(states + row[now], axis=0))
            return found

        with _door(CorruptError):
            parity = linked.follow(parities)
        odd = linked.are_odd(parity)
        rests = self._read(tables, rests_index(row, odd, parity).astype(np.uint8))
        own = _within_linked(2 * rests.astype(np.int32) + parity)
        symbols[linked.places], is_odd[linked.places] = own, odd
        return symbols, is_odd

    def finish(self) -> None:
        """Check that the passes used up the chunk; raises CorruptError if it is damaged or another's."""
        if not self._coder.is_empty():
            raise CorruptError("a chunk does not end where its symbols end")

    def _read(self, tables: Tables, indices: NDArray[np.uint8]) -> NDArray[np.int16]:
        codes = np.zeros(len(indices), np.uint16)
        with _door(CorruptError):
            for start, order, runs in _blocks(indices, until=self._coder.is_empty):
                grouped = np.empty(len(order), np.uint16)
                for index, run in runs:
                    grouped[run] = self._pop(tables, index, run.stop - run.start)
                codes[start : start + len(order)][order] = grouped
        return _unzigzag(codes)

    def _pop(self, tables: Tables, index: int, n_symbols: int) -> NDArray[np.int32]:
        half_width = int(tables.half_widths[index])
        escape = 2 * half_width + 1
        codes: NDArray[np.int32] = self._coder.decode(tables._models[index], n_symbols)
        if codes.max() == escape:
            outside = np.flatnonzero(codes == escape)
            order = _escape_order(half_width)
            classes = self._coder.decode(_CLASS_MODEL, outside.size)
            values = self._coder.decode(_UNIFORM, np.left_shift(1, classes + order, dtype=np.int32))
            codes[outside] += (((1 << classes) - 1) << order) + values
            if codes.max() > 2 * MAX_SYMBOL:
                raise CorruptError(f"a chunk holds a symbol beyond {MAX_SYMBOL}")
        return codes


def _within_linked(symbols: NDArray[Any]) -> NDArray[Any]:
    if len(symbols) and np.abs(symbols).max() > MAX_LINKED:
        raise CorruptError(f"a chunk holds a symbol beyond {MAX_LINKED}")
    return symbols


def _blocks(
    scale_idx: NDArray[np.uint8], until: Callable[[], bool] = lambda: False
) -> Iterator[tuple[int, NDArray[np.intp], list[tuple[int, slice]]]]:
    """The order of coding, for both sides: blocks of a pass, in each the runs of equal scale index.

    Yields where the block starts, which of its symbols comes when, and (scale index, run) ascending.
    Stops early when `until()` says so.
    """
    for start in range(0, len(scale_idx), _BLOCK):
        if until():
            return
        block = scale_idx[start : start + _BLOCK]
        ends = np.cumsum(np.bincount(block, minlength=_N_TABLES)).tolist()
        runs = [
            (index, slice(begin, end))
            for index, (begin, end) in enumerate(zip([0, *ends], ends, strict=False))
            if end > begin
        ]
        yield start, np.argsort(block, kind="stable"), runs


def _coding_order(half_width: int) -> NDArray[np.int64]:
    """Entries of a table in the order of their codes: symbols 0, -1, 1, -2, ..., K, then ESCAPE.

    With 0 first, zeros leave an ANS coder in state 0: a layer of zeros takes no byte.
    """
    codes = np.arange(2 * half_width + 1, dtype=np.uint16)
    return np.append(_unzigzag(codes).astype(np.int64) + half_width, 2 * half_width + 1)


def _zigzag(symbols: NDArray[np.int16]) -> NDArray[np.uint16]:
    return ((symbols << 1) ^ (symbols >> 15)).view(np.uint16)


def _unzigzag(codes: NDArray[np.uint16]) -> NDArray[np.int16]:
    return ((codes >> 1) ^ -(codes & 1)).view(np.int16)


def _escape_order(half_width: Any) -> Any:
    """Low bits of an escaped code that are not worth a class of their own: more for wider tables."""
    return np.maximum(1, np.frexp(half_width)[1] - 3)


def _split_escapes(rests: NDArray[np.int32], order: Any) -> tuple[NDArray[np.int32], ...]:
    """Exp-Golomb classes, sizes and values of what escaped codes exceed ESCAPE by."""
    classes = np.frexp((rests >> order) + 1)[1].astype(np.int32) - 1
    sizes = np.left_shift(1, classes + order, dtype=np.int32)
    values = rests - (((1 << classes) - 1) << order)
    return classes, sizes, values.astype(np.int32)


def _quantize(weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Counts in proportion to the weights, at least 1 each, 2**16 in all (largest remainder)."""
    floored = np.zeros(len(weights), bool)
    while True:
        scaled = weights * ((_TOTAL - floored.sum()) / weights[~floored].sum())
        low = (scaled < 1) & ~floored
        if not low.any():
            break
        floored |= low
    scaled[floored] = 1
    counts: NDArray[np.int64] = np.floor(scaled).astype(np.int64)
    missing = _TOTAL - int(counts.sum())
    counts[np.argsort(counts - scaled, kind="stable")[:missing]] += 1
    return counts


def _integers(name: str, array: NDArray[Any]) -> NDArray[np.int64]:
    array = np.asarray(array)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} are {array.dtype}, not integers")
    return array.astype(np.int64)


def _check_symbols(symbols: NDArray[np.int16], scale_idx: NDArray[np.uint8], n_tables: int = _N_TABLES) -> None:
    _check_scale_idx(scale_idx, n_tables)
    if not isinstance(symbols, np.ndarray) or symbols.dtype != np.int16:
        raise TypeError("symbols must be an int16 array")
    if symbols.shape != scale_idx.shape:
        raise ValueError(f"{symbols.shape} symbols do not go with {scale_idx.shape} scale indices")
    if symbols.size and symbols.min() < -MAX_SYMBOL:
        raise ValueError(f"symbols must lie within -{MAX_SYMBOL}..{MAX_SYMBOL}")


def _check_scale_idx(scale_idx: NDArray[np.uint8], n_tables: int = _N_TABLES) -> None:
    if not isinstance(scale_idx, np.ndarray) or scale_idx.dtype != np.uint8:
        raise TypeError("scale_idx must be a uint8 array")
    if scale_idx.ndim != 1:
        raise ValueError(f"scale_idx must be flat, not of shape {scale_idx.shape}")
    if scale_idx.size and scale_idx.max() >= n_tables:
        raise ValueError(f"scale indices must lie below {n_tables}")


@contextmanager
def _door(translation: type[Exception]) -> Iterator[None]:
    """Turn whatever constriction raises, even its panic that is no Exception, into `translation`."""
    try:
        yield
    except (CorruptError, MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as err:
        raise translation(f"the entropy coder failed: {err}") from err
