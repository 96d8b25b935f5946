"""Entropy coding: exact bytes, tables, escapes, refusals, and the door in front of constriction."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import constriction
import numpy as np
import pytest
from numpy.typing import NDArray

from hvcodec import entropy
from hvcodec.entropy import HISTOGRAM_REACH, SCALES, LayerDecoder, LayerEncoder, Tables, TrellisTables, histogram
from hvcodec.errors import CorruptError
from hvcodec.trellis import FIRST, Pass

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))
import entropy_reader

INT16 = np.int16
UINT8 = np.uint8


def hand_tables() -> Tables:
    """Tables of whole numbers that no library computes: half widths 1..13, uneven counts."""
    return uneven_tables(1 + np.arange(64) % 13, 7, 23)


def uneven_tables(half_widths: NDArray[np.int64], factor: int, modulus: int) -> Tables:
    rows = []
    for k in half_widths:
        row = 3 + np.arange(2 * k + 2) * factor % modulus
        row[k] += 65536 - row.sum()
        rows.append(row)
    return Tables(half_widths, np.concatenate(rows))


def encode(tables: Tables, *passes: tuple[Any, Any]) -> bytes:
    encoder = LayerEncoder(tables)
    for symbols, scale_idx in passes:
        encoder.encode(np.asarray(symbols, INT16), np.asarray(scale_idx, UINT8))
    return encoder.chunk()


def decode(tables: Tables, chunk: bytes, *passes: Any) -> list[NDArray[np.int16]]:
    decoder = LayerDecoder(chunk, tables)
    decoded = [decoder.decode(np.asarray(scale_idx, UINT8)) for scale_idx in passes]
    decoder.finish()
    return decoded


def check_codec(tables: Tables, *passes: tuple[Any, Any]) -> bytes:
    chunk = encode(tables, *passes)
    decoded = decode(tables, chunk, *(scale_idx for _, scale_idx in passes))
    for (symbols, _), found in zip(passes, decoded, strict=True):
        assert found.dtype == INT16
        np.testing.assert_array_equal(found, symbols)
    return chunk


def draw(tables: Tables, scale_idx: NDArray[np.uint8], seed: int) -> NDArray[np.int16]:
    """Symbols as the tables expect them; an escape becomes K + 1."""
    rng = np.random.default_rng(seed)
    symbols = np.zeros(len(scale_idx), INT16)
    for index in np.unique(scale_idx):
        here = scale_idx == index
        ends = np.cumsum(tables.table(index))
        entries = np.searchsorted(ends, rng.integers(0, 65536, int(here.sum())), side="right")
        symbols[here] = entries - tables.half_widths[index]
    return symbols


# --- exact bytes: an alarm when a dependency changes the format ------------------------------------

PINNED: list[tuple[str, list[tuple[list[int], list[int]]], str]] = [
    ("one symbol", [([1], [0])], "d7ff"),
    ("one negative symbol", [([-1], [12])], "99fe"),
    ("nearly certain", [([0, 0, 0, 1, 0, 0], [0] * 6)], "5b0001"),
    (
        "every kind of run",
        [([2, -3, 0, 5, -1, 1, 0, 4], [25, 25, 3, 12, 0, 3, 63, 12])],
        "15ff1249d4ff53c123ed",
    ),
    ("smallest escapes", [([2, -2, 0, 14, -14], [0, 0, 0, 12, 12])], "9c341b04f8ff54f538"),
    (
        "largest escapes",
        [([32767, -32767, 32767, -32767], [0, 0, 12, 12])],
        "fefff23ffdfffffffbfffcfffffffffff7ffffdf38",
    ),
    ("two passes", [([0, -1, 7], [5, 5, 20]), ([1, 0, -20], [20, 5, 5])], "d9ffbb117f5fda0a"),
]


@pytest.mark.parametrize(("passes", "expected"), [p[1:] for p in PINNED], ids=[p[0] for p in PINNED])
def test_chunk_bytes_are_pinned(passes: list[tuple[list[int], list[int]]], expected: str) -> None:
    chunk = check_codec(hand_tables(), *passes)
    assert chunk.hex() == expected


@pytest.mark.parametrize(("passes", "expected"), [p[1:] for p in PINNED], ids=[p[0] for p in PINNED])
def test_a_decoder_written_from_the_document_agrees(passes: list[tuple[list[int], list[int]]], expected: str) -> None:
    tables = hand_tables()
    found = entropy_reader.decode(
        bytes.fromhex(expected), tables.half_widths.tolist(), tables.counts.tolist(), [p[1] for p in passes]
    )
    assert found == [symbols for symbols, _ in passes]


def test_the_example_of_the_document() -> None:
    tables = Tables(np.ones(64, int), np.tile([8192, 49152, 4096, 4096], 64))
    assert check_codec(tables, ([0, 1, -1, 0, -3, 0], [9, 4, 9, 4, 9, 9])).hex(" ") == "00 e0 f5 07"


def test_the_document_s_decoder_agrees_across_blocks_and_escapes() -> None:
    tables = Tables.logistic()
    rng = np.random.default_rng(3)
    scale_idx = [rng.integers(0, 20, n).astype(UINT8) for n in (entropy._BLOCK + 999, 1, 0, 5000)]
    symbols = [draw(tables, indices, seed) for seed, indices in enumerate(scale_idx)]
    symbols[0][::10_000] = rng.integers(-32767, 32768, len(symbols[0][::10_000]))
    chunk = encode(tables, *zip(symbols, scale_idx, strict=True))
    found = entropy_reader.decode(
        chunk,
        tables.half_widths.tolist(),
        tables.counts.tolist(),
        [indices.tolist() for indices in scale_idx],
    )
    assert found == [values.tolist() for values in symbols]


@pytest.mark.parametrize("make", [hand_tables, Tables.gaussian])
def test_cumulative_frequencies_are_256_times_the_counts(make: Callable[[], Tables]) -> None:
    """Pushed on an empty stack, code z leaves its cumulative frequency as the state."""
    tables = make()
    for index in (0, 1, 12, 33, 63):
        counts = tables.table(index)[entropy._coding_order(int(tables.half_widths[index]))]
        starts = 256 * (np.cumsum(counts) - counts)
        for code in range(1, len(counts)):
            coder = constriction.stream.stack.AnsCoder()
            coder.encode_reverse(np.array([code], np.int32), tables._models[index])
            assert coder.get_compressed().tolist() == [starts[code]]


# --- symbols ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(64))
def test_every_table_codes_every_kind_of_symbol(index: int) -> None:
    k = int(Tables.gaussian().half_widths[index])
    symbols = [
        0,
        1,
        -1,
        k,
        -k,
        k + 1,
        -k - 1,
        k + 2,
        -k - 2,
        2 * k + 9,
        5000,
        32766,
        32767,
        -32766,
        -32767,
        0,
    ]
    check_codec(Tables.gaussian(), (symbols, [index] * len(symbols)))


def test_zeros_take_no_byte() -> None:
    rng = np.random.default_rng(0)
    scale_idx = rng.integers(0, 64, 1000)
    assert check_codec(Tables.gaussian(), ([0] * 1000, scale_idx), ([0] * 10, [63] * 10)) == b""


def test_a_layer_without_symbols_takes_no_byte() -> None:
    assert encode(Tables.gaussian()) == b""
    assert check_codec(Tables.gaussian(), ([], [])) == b""


def test_a_chunk_may_be_asked_for_twice_and_extended() -> None:
    tables = hand_tables()
    encoder = LayerEncoder(tables)
    encoder.encode(np.array([3, -1], INT16), np.array([20, 20], UINT8))
    assert encoder.chunk() == encoder.chunk() == encode(tables, ([3, -1], [20, 20]))
    encoder.encode(np.array([1], INT16), np.array([7], UINT8))
    assert encoder.chunk() == encode(tables, ([3, -1], [20, 20]), ([1], [7]))


def test_views_with_strides_are_coded_like_copies() -> None:
    tables = hand_tables()
    symbols = np.arange(-20, 20, dtype=INT16)
    scale_idx = np.arange(40, dtype=UINT8)
    encoder = LayerEncoder(tables)
    encoder.encode(symbols[::-2], scale_idx[::2])
    assert encoder.chunk() == encode(tables, (symbols[::-2].copy(), scale_idx[::2].copy()))
    found = LayerDecoder(encoder.chunk(), tables).decode(scale_idx[::2])
    np.testing.assert_array_equal(found, symbols[::-2])


def test_runs_end_at_the_border_of_a_block() -> None:
    """One pass of more than a block, with runs that end exactly at its border."""
    scale_idx = np.zeros(entropy._BLOCK + 3, UINT8)
    scale_idx[entropy._BLOCK :] = [5, 0, 5]
    symbols = np.zeros(len(scale_idx), INT16)
    symbols[[0, entropy._BLOCK - 1, entropy._BLOCK, -1]] = [1, -1, 900, -900]
    check_codec(Tables.gaussian(), (symbols, scale_idx))


def test_a_large_layer_takes_its_information_and_three_bytes() -> None:
    tables = Tables.gaussian()
    scale_idx = np.random.default_rng(1).integers(0, 46, 300_000).astype(UINT8)
    symbols = draw(tables, scale_idx, seed=2)
    ideal_bytes = tables.information_bits(symbols, scale_idx) / 8
    n_bytes = len(check_codec(tables, (symbols, scale_idx)))
    assert ideal_bytes <= n_bytes <= 1.0001 * ideal_bytes + 4


def test_nearly_certain_symbols_take_their_information() -> None:
    """What the range coder cannot do: it takes 3 % more here."""
    tables = Tables.gaussian()
    scale_idx = np.zeros(4_000_000, UINT8)
    symbols = np.zeros(len(scale_idx), INT16)
    symbols[:: 1 << 14] = 1
    ideal_bytes = tables.information_bits(symbols, scale_idx) / 8
    assert ideal_bytes > 500
    assert len(encode(tables, (symbols, scale_idx))) <= 1.001 * ideal_bytes + 4


# --- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("symbols", "scale_idx", "error", "message"),
    [
        (np.array([-32768], INT16), np.array([0], UINT8), ValueError, "-32767..32767"),
        (np.array([1], np.int32), np.array([0], UINT8), TypeError, "int16"),
        ([1], np.array([0], UINT8), TypeError, "int16"),
        (np.array([1], INT16), np.array([0], np.int64), TypeError, "uint8"),
        (np.array([1], INT16), [0], TypeError, "uint8"),
        (np.array([1], INT16), np.array([64], UINT8), ValueError, "below 64"),
        (np.array([1, 2], INT16), np.array([0], UINT8), ValueError, r"\(2,\)"),
        (np.array([[1]], INT16), np.array([[0]], UINT8), ValueError, "flat"),
    ],
)
def test_wrong_arguments_are_refused_before_coding(
    symbols: Any, scale_idx: Any, error: type[Exception], message: str
) -> None:
    tables = hand_tables()
    encoder = LayerEncoder(tables)
    with pytest.raises(error, match=message):
        encoder.encode(symbols, scale_idx)
    with pytest.raises(error, match=message):
        tables.information_bits(symbols, scale_idx)
    with pytest.raises(error, match=message):
        histogram(symbols, scale_idx)
    assert encoder.chunk() == b""


@pytest.mark.parametrize(
    ("scale_idx", "error"),
    [([0], TypeError), (np.array([64], UINT8), ValueError), (np.zeros((1, 1), UINT8), ValueError)],
)
def test_wrong_scale_indices_are_refused_by_the_decoder(scale_idx: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        LayerDecoder(b"", hand_tables()).decode(scale_idx)


def test_a_chunk_must_be_bytes() -> None:
    with pytest.raises(TypeError, match="bytes, not int"):
        LayerDecoder(5, hand_tables())  # type: ignore[arg-type]


@pytest.mark.parametrize("n_zeros", range(1, 6))
def test_zero_bytes_at_the_end_are_refused(n_zeros: int) -> None:
    chunk = encode(hand_tables(), ([3], [3]))
    with pytest.raises(CorruptError, match="zero byte"):
        LayerDecoder(chunk + bytes(n_zeros), hand_tables())


def test_a_symbol_beyond_int16_is_refused() -> None:
    """No encoder writes this: ESCAPE, then a code above 65534 (class 14, all bits set)."""
    tables = hand_tables()
    coder = constriction.stream.stack.AnsCoder()
    coder.encode_reverse(np.array([(1 << 15) - 1], np.int32), entropy._UNIFORM, np.array([1 << 15], np.int32))
    coder.encode_reverse(np.array([14], np.int32), entropy._CLASS_MODEL)
    coder.encode_reverse(np.array([3], np.int32), tables._models[0])
    first, *rest = coder.get_compressed().astype("<u4").tobytes().rstrip(b"\0")
    assert first == 0
    decoder = LayerDecoder(bytes(rest), tables)
    with pytest.raises(CorruptError, match="beyond 32767"):
        decoder.decode(np.array([0], UINT8))


def test_finish_wants_all_symbols_and_no_more() -> None:
    tables = Tables.gaussian()
    scale_idx = np.full(50, 30, UINT8)
    chunk = encode(tables, (draw(tables, scale_idx, seed=0), scale_idx))
    with pytest.raises(CorruptError, match="does not end"):
        decode(tables, chunk, scale_idx[:-1])
    with pytest.raises(CorruptError, match="does not end"):
        decode(hand_tables(), chunk, scale_idx)
    with pytest.raises(CorruptError, match="does not end"):
        decode(tables, chunk[:-4], scale_idx)


def test_finish_notices_damage_and_desynchronisation() -> None:
    """Almost always: the last symbols decoded have nothing after them that could go wrong."""
    tables = Tables.gaussian()
    scale_idx = np.random.default_rng(5).integers(15, 35, 500).astype(UINT8)
    symbols = draw(tables, scale_idx, seed=5)
    chunk = encode(tables, (symbols, scale_idx))

    def silent(damaged: bytes, indices: NDArray[np.uint8]) -> bool:
        try:
            found = decode(tables, damaged, indices)[0]
        except CorruptError:
            return False
        return not np.array_equal(found, symbols)

    flips = [bytearray(chunk) for _ in range(8 * len(chunk))]
    for bit, flipped in enumerate(flips):
        flipped[bit // 8] ^= 1 << bit % 8
    assert sum(silent(bytes(flipped), scale_idx) for flipped in flips) <= 0.02 * len(flips)
    drifted = scale_idx + np.eye(500, dtype=UINT8)
    assert sum(silent(chunk, indices) for indices in drifted) <= 0.02 * len(drifted)


# --- the door --------------------------------------------------------------------------------------


def raised_by(call: Callable[[], object]) -> BaseException:
    try:
        call()
    except BaseException as err:
        return err
    raise AssertionError("constriction raised nothing")


def constriction_errors() -> list[BaseException]:
    """One of each kind that constriction raises."""
    model, ans = constriction.stream.model, constriction.stream.stack.AnsCoder
    words, symbol = np.array([1, 0], np.uint32), np.array([9], np.int32)
    table = model.Categorical(np.array([1.0, 2.0]), perfect=False)
    return [
        raised_by(lambda: ans(words)),
        raised_by(lambda: ans(words.astype(float))),
        raised_by(lambda: ans().encode_reverse(symbol, table)),
        raised_by(lambda: ans().decode(model.QuantizedGaussian(-5, 5, 0.0, -1.0))),
        raised_by(lambda: ans().decode(model.Uniform(), symbol * 0)),
    ]


def test_constriction_raises_what_the_door_knows() -> None:
    names = {type(err).__name__ for err in constriction_errors()}
    assert names == {"ValueError", "TypeError", "KeyError", "PanicException"}


class Raises:
    """Stands in for a coder and raises one thing whatever is asked."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def is_empty(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        raise self.error


@pytest.mark.parametrize("error", [*constriction_errors(), AssertionError("x"), OverflowError("x")])
def test_nothing_of_constriction_leaves_the_door(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = LayerDecoder(b"\1", hand_tables())
    decoder._coder = Raises(error)
    with pytest.raises(CorruptError, match="entropy coder failed") as caught:
        decoder.decode(np.array([0], UINT8))
    assert caught.value.__cause__ is error

    monkeypatch.setattr(entropy, "_AnsCoder", lambda *_: Raises(error))
    with pytest.raises(RuntimeError, match="entropy coder failed"):
        encode(hand_tables(), ([1], [0]))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), MemoryError()])
def test_interrupts_pass_the_door(error: BaseException) -> None:
    decoder = LayerDecoder(b"\1", hand_tables())
    decoder._coder = Raises(error)
    with pytest.raises(type(error)) as caught:
        decoder.decode(np.array([0], UINT8))
    assert caught.value is error


# --- tables ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Tables.gaussian, Tables.logistic])
def test_parametric_tables(make: Callable[[], Tables]) -> None:
    tables = make()
    assert len(tables.counts) == (2 * tables.half_widths + 2).sum()
    for index, scale in enumerate(SCALES):
        k = int(tables.half_widths[index])
        assert k == min(max(1, np.ceil(6 * scale)), 1023)
        counts = tables.table(index)
        assert counts.sum() == 65536
        assert counts.min() >= 1
        assert (np.diff(counts[: k + 1]) >= -1).all()  # rises to 0 but for the rounding
        assert np.abs(counts[:-1] - counts[-2::-1]).max() <= 1  # symmetric but for the rounding
        if 1 < scale < 30:  # bins of width 1 add 1/12 to the variance
            symbols = np.arange(-k, k + 1)
            variance = (counts[:-1] * symbols**2).sum() / 65536
            assert variance == pytest.approx(scale**2 + 1 / 12, rel=0.1)


def test_logistic_tails_are_heavier() -> None:
    index = 35  # a standard deviation of 8
    gaussian, logistic = Tables.gaussian().table(index), Tables.logistic().table(index)
    k = int(Tables.gaussian().half_widths[index])
    assert logistic[k + 32] > 2 * gaussian[k + 32]
    assert logistic[k] > gaussian[k]


def valid_arrays() -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    tables = hand_tables()
    return tables.half_widths.copy(), tables.counts.copy()


def bad_tables() -> list[tuple[Any, Any, str]]:
    half_widths, counts = valid_arrays()
    zero = counts.copy()
    zero[:2] += np.array([-zero[0], zero[0]])
    uneven = counts.copy()
    uneven[5] += 1  # entry 1 of table 1
    shifted = counts.copy()
    shifted[[0, 5]] += [1, -1]
    narrow, wide = half_widths.copy(), half_widths.copy()
    narrow[7], wide[9] = 0, 1024
    return [
        (half_widths[:0], counts[:0], "1 to 256 numbers"),
        (np.ones(257, int), np.tile(counts[:4], 257), "1 to 256 numbers"),
        (half_widths.reshape(2, 32), counts, "1 to 256 numbers"),
        (half_widths[:63], counts, "ask for 986 numbers"),
        (half_widths.astype(float), counts, "half_widths are float64"),
        (half_widths, counts.astype(np.float32), "counts are float32"),
        (narrow, counts, "0..13"),
        (wide, counts, "1..1024"),
        (half_widths, counts[:-1], f"ask for {len(counts)} numbers"),
        (half_widths, counts.reshape(2, -1), f"ask for {len(counts)} numbers"),
        (half_widths, zero, "counts holds 0"),
        (half_widths, uneven, "table 1 sums to 65537"),
        (half_widths, shifted, "table 0 sums to 65537"),
    ]


@pytest.mark.parametrize(("half_widths", "counts", "message"), bad_tables())
def test_bad_tables_are_refused(half_widths: Any, counts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tables(half_widths, counts)


@pytest.mark.parametrize("n_tables", [1, 232, 256])
def test_there_may_be_other_numbers_of_tables(n_tables: int) -> None:
    tables = Tables(np.ones(n_tables, int), np.tile([8192, 49152, 4096, 4096], n_tables))
    assert tables.table(n_tables - 1).tolist() == [8192, 49152, 4096, 4096]


def test_tables_are_immutable_and_keep_no_caller_s_array() -> None:
    half_widths, counts = valid_arrays()
    tables = Tables(half_widths, counts)
    counts[:] = 0
    half_widths[:] = 0
    assert tables.table(0).sum() == 65536
    with pytest.raises(ValueError, match="read-only"):
        tables.counts[0] = 1
    with pytest.raises(AttributeError):
        tables.counts = counts  # type: ignore[misc]


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda tables: pickle.loads(pickle.dumps(tables))])
def test_tables_can_be_copied(clone: Callable[[Tables], Tables]) -> None:
    tables = hand_tables()
    twin = clone(tables)
    np.testing.assert_array_equal(twin.counts, tables.counts)
    assert encode(twin, ([1, -2, 99], [4, 5, 6])) == encode(tables, ([1, -2, 99], [4, 5, 6]))


def test_threads_share_tables() -> None:
    tables = Tables.logistic()
    scale_idx = np.random.default_rng(9).integers(0, 40, 50_000).astype(UINT8)
    symbols = [draw(tables, scale_idx, seed) for seed in range(6)]
    expected = [encode(tables, (values, scale_idx)) for values in symbols]
    found: dict[int, list[bool]] = {}

    def work(job: int) -> None:
        chunk = encode(tables, (symbols[job], scale_idx))
        back = decode(tables, chunk, scale_idx)[0]
        found[job] = [chunk == expected[job], np.array_equal(back, symbols[job])]

    threads = [threading.Thread(target=work, args=(job,)) for job in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {job: [True, True] for job in range(6)}


def test_a_decoder_may_move_between_threads() -> None:
    tables = hand_tables()
    decoder = LayerDecoder(encode(tables, ([1, -2], [4, 5])), tables)
    found: list[NDArray[np.int16]] = []
    thread = threading.Thread(target=lambda: found.append(decoder.decode(np.array([4, 5], UINT8))))
    thread.start()
    thread.join()
    decoder.finish()
    assert found[0].tolist() == [1, -2]


# --- fitting and measuring -------------------------------------------------------------------------


def test_histogram_counts_symbols_by_scale_index() -> None:
    symbols = np.array([0, 0, -1, 1024, 1023, 30_000, -30_000, 0], INT16)
    scale_idx = np.array([0, 0, 0, 7, 7, 7, 63, 63], UINT8)
    counts = histogram(symbols, scale_idx)
    assert counts.shape == (64, 2 * HISTOGRAM_REACH + 1)
    assert counts.sum() == 8
    assert counts[0, HISTOGRAM_REACH] == 2
    assert counts[0, HISTOGRAM_REACH - 1] == 1
    assert counts[7, -1] == 2
    assert counts[7, -2] == 1
    assert counts[63, 0] == 1
    assert counts[63, HISTOGRAM_REACH] == 1


def test_fitted_tables_follow_the_data_and_fall_back_on_the_prior() -> None:
    prior = Tables.gaussian()
    counts = np.zeros((64, 2 * HISTOGRAM_REACH + 1), np.int64)
    k = int(prior.half_widths[30])
    counts[30, HISTOGRAM_REACH - 3 : HISTOGRAM_REACH + 4] = 1_000_000  # flat where a bell was expected
    counts[30, [0, -1]] = 500_000  # and one eighth of the symbols escapes
    fitted = Tables.fit(counts, prior=prior)
    np.testing.assert_allclose(fitted.table(30)[k - 3 : k + 4], 65536 / 8, rtol=0.01)
    assert fitted.table(30)[-1] == pytest.approx(65536 / 8, rel=0.01)
    np.testing.assert_array_equal(fitted.half_widths, prior.half_widths)
    for index in (0, 29, 31, 63):
        np.testing.assert_array_equal(fitted.table(index), prior.table(index))


def test_fitted_tables_take_fewer_bits_than_parametric_ones() -> None:
    rng = np.random.default_rng(4)
    scale_idx = rng.integers(10, 40, 200_000).astype(UINT8)
    symbols = np.rint(rng.laplace(0, SCALES[scale_idx] / np.sqrt(2))).astype(INT16)
    train, test = slice(0, 150_000), slice(150_000, None)
    fitted = Tables.fit(histogram(symbols[train], scale_idx[train]))
    bits = [t.information_bits(symbols[test], scale_idx[test]) for t in (Tables.gaussian(), Tables.logistic(), fitted)]
    assert bits[2] < bits[1] < bits[0]


def test_one_outlier_does_not_spoil_a_rare_table() -> None:
    counts = histogram(np.array([9], INT16), np.array([20], UINT8))
    table = Tables.fit(counts).table(20)
    assert table[-1] < 65536 * 0.1
    assert table[:-1].argmax() == Tables.logistic().half_widths[20]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda counts: counts[:, :-1], "shape"),
        (lambda counts: counts - 1, "not negative"),
        (lambda counts: counts * np.nan, "finite"),
    ],
)
def test_bad_histograms_are_refused(change: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tables.fit(change(np.zeros((64, 2 * HISTOGRAM_REACH + 1))))


def test_a_fit_needs_a_prior_of_some_weight() -> None:
    with pytest.raises(ValueError, match="weight"):
        Tables.fit(np.zeros((64, 2 * HISTOGRAM_REACH + 1)), weight=0)


def test_counts_are_rounded_by_largest_remainder() -> None:
    assert entropy._quantize(np.array([1.0, 1.0, 1.0])).tolist() == [21846, 21845, 21845]
    assert entropy._quantize(np.array([0.0, 3.0, 1.0, 0.0])).tolist() == [1, 49151, 16383, 1]
    assert entropy._quantize(np.array([1e-300, 1e300])).tolist() == [1, 65535]


def test_information_of_known_symbols() -> None:
    tables = hand_tables()
    row = tables.table(0)  # symbols -1, 0, 1, ESCAPE
    bits = 16 - np.log2(row)

    def measure(*symbols: int) -> float:
        return tables.information_bits(np.array(symbols, INT16), np.zeros(len(symbols), UINT8))

    assert measure() == 0
    assert measure(0) == pytest.approx(bits[1])
    assert measure(-1, 1, 1) == pytest.approx(bits[0] + 2 * bits[2])
    assert measure(2) == pytest.approx(bits[3] + 1 + 1)  # class 0, one bit
    assert measure(-32767) == pytest.approx(bits[3] + 14 + 15)  # class 14, 15 bits


# --- trellis passes --------------------------------------------------------------------------------


def hand_trellis() -> TrellisTables:
    """Frequencies that no library computes: all shares of even symbols, and narrow tables with uneven counts."""
    evens = 1 + np.arange(2 * 56).reshape(2, 56) * 590
    return TrellisTables(evens, uneven_tables(1 + np.arange(232) % 5, 11, 29))


def encode_linked(trellis: TrellisTables, *passes: tuple[Any, Pass]) -> bytes:
    encoder = LayerEncoder(hand_tables(), trellis)
    for symbols, linked in passes:
        encoder.encode_linked(np.asarray(symbols, INT16), linked)
    return encoder.chunk()


def random_pass(n: int, seed: int, low: int = 0, high: int = 64) -> Pass:
    rng = np.random.default_rng(seed)
    return Pass(rng.integers(low, high, n).astype(UINT8), rng.integers(0, 3, n))


def symbols_for(linked: Pass, seed: int) -> NDArray[np.int16]:
    """Symbols of about the size that their scale indices say, with a few that are far out."""
    rng = np.random.default_rng(seed)
    symbols = np.rint(rng.laplace(0, SCALES[linked.scale_idx] / np.sqrt(2)))
    symbols[:: max(1, len(symbols) // 7)] *= 50
    return symbols.clip(-16383, 16383).astype(INT16)


def grids_of(symbols: NDArray[np.int16], linked: Pass) -> NDArray[np.bool_]:
    is_odd = np.zeros(len(symbols), bool)
    is_odd[linked.places] = linked.are_odd(symbols[linked.places])
    return is_odd


def check_linked(trellis: TrellisTables, *passes: tuple[NDArray[np.int16], Pass]) -> bytes:
    chunk = encode_linked(trellis, *passes)
    decoder = LayerDecoder(chunk, hand_tables(), trellis)
    for symbols, linked in passes:
        found, is_odd = decoder.decode_linked(linked)
        assert found.dtype == INT16
        np.testing.assert_array_equal(found, symbols)
        np.testing.assert_array_equal(is_odd, grids_of(symbols, linked))
    decoder.finish()
    return chunk


def read_by_hand(chunk: bytes, trellis: TrellisTables, linked: Pass) -> list[int]:
    """One trellis pass as docs/format.md has it in section 6, in plain integers; the order of lanes is that of Pass."""
    stack = entropy_reader.Stack(chunk)

    def runs(own: Tables, indices: list[int]) -> list[int]:
        codes = [0] * len(indices)
        for index in sorted(set(indices)):
            places = [place for place, other in enumerate(indices) if other == index]
            natural, k = own.table(index).tolist(), int(own.half_widths[index])
            order = [0] + [s for n in range(1, k + 1) for s in (-n, n)]
            table = [256 * natural[s + k] for s in order] + [256 * natural[-1]]
            for place, code in zip(places, entropy_reader.run(stack, table, len(places)), strict=True):
                codes[place] = code
        return [-(code + 1) // 2 if code % 2 else code // 2 for code in codes]

    scale_idx, lane_of = linked.scale_idx.tolist(), (linked.lanes.place % max(linked.lanes.number, 1)).tolist()
    scalar, places = linked.scalar.tolist(), linked.places.tolist()
    symbols = [0] * len(scale_idx)
    for place, k in zip(scalar, runs(trellis.tables, [scale_idx[place] for place in scalar]), strict=True):
        symbols[place] = k
    states: dict[int, int] = {}
    parities, indices = [], []
    for place, lane in zip(places, lane_of, strict=True):
        state, t = states.get(lane, 0), scale_idx[place] - FIRST
        odd = bin(state & 0b01011).count("1") % 2
        e = int(trellis.evens[odd, t])
        parity = stack.pop([256 * e, 256 * (65536 - e)])
        states[lane] = (2 * state + (parity ^ bin(state & 0b11011).count("1") % 2)) % 32
        parities.append(parity)
        indices.append(FIRST + 4 * t + 2 * odd + parity)
    for place, parity, rest in zip(places, parities, runs(trellis.tables, indices), strict=True):
        symbols[place] = 2 * rest + parity
    assert stack.state == 0 and not stack.words
    return symbols


@pytest.mark.parametrize("make", [hand_trellis, TrellisTables.logistic])
@pytest.mark.parametrize(("n", "low", "high"), [(1, 8, 9), (50, 0, 64), (700, 5, 20), (700, 8, 40), (20, 63, 64)])
def test_a_trellis_pass_is_written_as_in_the_document(
    make: Callable[[], TrellisTables], n: int, low: int, high: int
) -> None:
    linked = random_pass(n, 1, low, high)
    symbols = symbols_for(linked, 2)
    symbols[-1] = -3
    chunk = check_linked(make(), (symbols, linked))
    assert read_by_hand(chunk, make(), linked) == symbols.tolist()


def test_a_small_trellis_chunk_by_hand() -> None:
    """Scale indices 7, which is scalar, and 8: of these 3 has the parity 1, and the 0 behind it is on the odd grid."""
    evens = np.full((2, 56), 32768)
    trellis = TrellisTables(evens, Tables(np.ones(232, int), np.tile([8192, 49152, 4096, 4096], 232)))
    linked = Pass(np.array([8, 7, 8], UINT8), np.zeros(3, int))
    encoder = LayerEncoder(Tables(np.ones(64, int), np.tile([8192, 49152, 4096, 4096], 64)), trellis)
    encoder.encode_linked(np.array([3, -1, 0], INT16), linked)
    # Pushed in reverse: rest 0 with table 2, rest 1 with table 1, the parities 0 and 1, the scalar -1.
    state = 0
    pushed = [(0, 0xC00000), (0xE00000, 0x100000), (0, 0x800000), (0x800000, 0x800000), (0xC00000, 0x200000)]
    for start, frequency in pushed:
        state = (state // frequency << 24) + start + state % frequency
    assert encoder.chunk() == state.to_bytes(8, "little").rstrip(b"\0")[1:]
    assert state < 1 << 32


def test_the_largest_trellis_symbols_are_coded() -> None:
    linked = Pass(np.repeat(np.arange(FIRST, 64, dtype=UINT8), 4), np.zeros(224, int))
    check_linked(hand_trellis(), (np.tile(np.array([16383, -16383, 16382, -16382], INT16), 56), linked))


def test_several_passes_of_both_kinds_share_a_chunk() -> None:
    trellis, tables = hand_trellis(), hand_tables()
    first, second = random_pass(300, 3), random_pass(40, 4)
    a, b, c = symbols_for(first, 5), symbols_for(second, 6), np.array([3, -99, 0], INT16)
    indices = np.array([5, 40, 63], UINT8)
    encoder = LayerEncoder(tables, trellis)
    encoder.encode_linked(a, first)
    encoder.encode(c, indices)
    encoder.encode_linked(b, second)
    decoder = LayerDecoder(encoder.chunk(), tables, trellis)
    np.testing.assert_array_equal(decoder.decode_linked(first)[0], a)
    np.testing.assert_array_equal(decoder.decode(indices), c)
    np.testing.assert_array_equal(decoder.decode_linked(second)[0], b)
    decoder.finish()


def test_a_pass_of_scalar_symbols_is_written_with_the_tables_of_the_trellis() -> None:
    linked = random_pass(200, 7, 0, FIRST)
    symbols = symbols_for(linked, 8)
    trellis = hand_trellis()
    assert check_linked(trellis, (symbols, linked)) == encode(trellis.tables, (symbols, linked.scale_idx))


def test_zeros_in_a_trellis_take_no_byte() -> None:
    passes = [(np.zeros(n, INT16), random_pass(n, n)) for n in (0, 1, 900)]
    assert check_linked(TrellisTables.logistic(), *passes) == b""


def ideal_bits(trellis: TrellisTables, symbols: NDArray[np.int16], linked: Pass) -> float:
    """Information content of a pass, part by part, whatever `information_bits` says."""
    own, row = symbols[linked.places], linked.scale_idx[linked.places] - FIRST
    odd, parity = linked.are_odd(own).astype(int), own & 1
    even = trellis.evens[odd, row] / 65536
    bits = float(-np.log2(np.where(parity == 1, 1 - even, even)).sum())
    bits += trellis.tables.information_bits(own >> 1, (FIRST + 4 * row + 2 * odd + parity).astype(UINT8))
    return bits + trellis.tables.information_bits(symbols[linked.scalar], linked.scale_idx[linked.scalar])


def test_a_trellis_pass_takes_its_information_and_three_bytes() -> None:
    linked = random_pass(100_000, 9, 0, 46)
    symbols = symbols_for(linked, 10)
    for trellis in (hand_trellis(), TrellisTables.logistic()):
        ideal_bytes = ideal_bits(trellis, symbols, linked) / 8
        assert ideal_bytes <= len(check_linked(trellis, (symbols, linked))) <= 1.0001 * ideal_bytes + 4


@pytest.mark.parametrize(("n", "low", "high"), [(0, 0, 64), (1, 8, 9), (500, 0, 8), (500, 8, 64), (5000, 0, 64)])
def test_information_of_a_trellis_pass(n: int, low: int, high: int) -> None:
    linked = random_pass(n, 20, low, high)
    symbols = symbols_for(linked, 21)
    for trellis in (hand_trellis(), TrellisTables.gaussian()):
        assert trellis.information_bits(symbols, linked) == pytest.approx(ideal_bits(trellis, symbols, linked))


def test_prices_are_what_symbols_take() -> None:
    trellis = TrellisTables.logistic()
    assert trellis.prices.shape == (2, 64, entropy.PRICED + 1)
    assert (trellis.prices[:, FIRST:] > 0).all()
    for index in range(FIRST, 36):
        linked = random_pass(3000, index, index, index + 1)
        symbols = np.rint(np.random.default_rng(index).laplace(0, SCALES[index] / np.sqrt(2), 3000))
        reach = min(entropy.PRICED, 2 * int(trellis.tables.half_widths[FIRST + 4 * (index - FIRST)]))
        symbols = symbols.clip(-reach, reach).astype(INT16)
        odd = grids_of(symbols, linked).astype(int)
        priced = float(trellis.prices[odd, index, np.abs(symbols)].sum())
        assert priced == pytest.approx(ideal_bits(trellis, symbols, linked), rel=0.01)


def test_a_wrong_trellis_table_is_noticed() -> None:
    linked = random_pass(500, 11, FIRST, 35)
    symbols = symbols_for(linked, 12)
    chunk = encode_linked(TrellisTables.logistic(), (symbols, linked))
    decoder = LayerDecoder(chunk, hand_tables(), hand_trellis())
    with pytest.raises(CorruptError):
        (decoder.decode_linked(linked), decoder.finish())


@pytest.mark.parametrize("value", [16384, -16384, 32767, -32768])
def test_trellis_symbols_beyond_their_range_are_refused(value: int) -> None:
    linked = random_pass(3, 13, FIRST, 64)
    encoder = LayerEncoder(hand_tables(), hand_trellis())
    with pytest.raises(ValueError, match=r"-16383\.\.16383"):
        encoder.encode_linked(np.array([0, value, 0], INT16), linked)
    assert encoder.chunk() == b""
    with pytest.raises(ValueError, match=r"-16383\.\.16383"):
        encoder.encode_linked(np.array([0, value, 0], INT16), random_pass(3, 13, 0, FIRST))


@pytest.mark.parametrize("value", [16384, -16384, 32767, -32767])
def test_a_trellis_symbol_beyond_its_range_in_a_chunk_is_refused(value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    linked = random_pass(3, 13, FIRST, 64)
    monkeypatch.setattr(entropy, "MAX_LINKED", 32767)
    chunk = encode_linked(hand_trellis(), ([0, value, 0], linked))
    monkeypatch.undo()
    with pytest.raises(CorruptError, match="beyond 16383"):
        LayerDecoder(chunk, hand_tables(), hand_trellis()).decode_linked(linked)


@pytest.mark.parametrize("rest", [16383, -16384, 20000, 32767, -32767])
def test_a_rest_beyond_its_range_in_a_chunk_is_refused(rest: int) -> None:
    """The trellis symbol of some of these would not fit into 16 bits."""
    trellis = hand_trellis()
    encoder = LayerEncoder(hand_tables(), trellis)
    encoder._runs.append(partial(entropy._push_parities, np.array([1], np.int32), trellis.weights[[0], [5]]))
    encoder._add(trellis.tables, np.array([rest], INT16), np.array([FIRST + 4 * 5 + 1], UINT8))
    decoder = LayerDecoder(encoder.chunk(), hand_tables(), trellis)
    linked = Pass(np.array([FIRST + 5], UINT8), np.zeros(1, int))
    with pytest.raises(CorruptError, match="beyond 16383"):
        decoder.decode_linked(linked)


@pytest.mark.parametrize("error", [*constriction_errors(), AssertionError("x")])
def test_nothing_of_constriction_leaves_the_door_of_a_trellis(error: BaseException) -> None:
    decoder = LayerDecoder(b"\1", hand_tables(), hand_trellis())
    decoder._coder = Raises(error)
    with pytest.raises(CorruptError, match="entropy coder failed"):
        decoder.decode_linked(random_pass(5, 14, FIRST, 64))


def bad_trellises() -> list[tuple[Any, Any]]:
    good = hand_trellis()
    none, all_of_them = good.evens.copy(), good.evens.copy()
    none[1, 5], all_of_them[0, 53] = 0, 65536
    return [
        (good.evens[:, :53], good.tables),
        (good.evens[0], good.tables),
        (good.evens.T, good.tables),
        (good.evens.astype(float), good.tables),
        (none, good.tables),
        (all_of_them, good.tables),
        (-good.evens, good.tables),
        (good.evens, hand_tables()),
    ]


@pytest.mark.parametrize(("evens", "rests"), bad_trellises())
def test_bad_trellis_tables_are_refused(evens: Any, rests: Tables) -> None:
    with pytest.raises(ValueError, match=r"evens|tables of a trellis"):
        TrellisTables(evens, rests)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda tables: pickle.loads(pickle.dumps(tables))])
def test_trellis_tables_can_be_copied(clone: Callable[[TrellisTables], TrellisTables]) -> None:
    linked = random_pass(50, 15)
    symbols = symbols_for(linked, 16)
    chunk = encode_linked(hand_trellis(), (symbols, linked))
    used = hand_trellis()
    for twin in (clone(used), clone(used) if used.prices.size else used):  # before and after prices were asked for
        np.testing.assert_array_equal(twin.evens, used.evens)
        np.testing.assert_array_equal(twin.prices, used.prices)
        assert encode_linked(twin, (symbols, linked)) == chunk


def test_trellis_tables_are_immutable_and_keep_no_caller_s_array() -> None:
    evens = hand_trellis().evens.copy()
    trellis = TrellisTables(evens, hand_trellis().tables)
    evens[:] = 1
    np.testing.assert_array_equal(trellis.evens, hand_trellis().evens)
    with pytest.raises(ValueError, match="read-only"):
        trellis.evens[0, 0] = 5


def test_logistic_trellis_tables_know_their_grids() -> None:
    """Zero is narrow on the odd grid, so at a small scale it is rarer there; at a large one parities are alike."""
    evens = TrellisTables.logistic().evens / 65536
    assert (evens[0, :5] > evens[1, :5] + 0.1).all()
    np.testing.assert_allclose(evens[:, 20:45], 0.5, atol=0.05)


@pytest.mark.parametrize("odd", [0, 1])
@pytest.mark.parametrize("family", ["gaussian", "logistic"])
def test_parametric_trellis_tables_are_of_what_lies_nearest(family: str, odd: int) -> None:
    """Symbols of the standard deviation 1 on one grid: 0, 1, 2, ... on the even and 0, 0.5, 1.5, ... on the odd one."""
    rng, n = np.random.default_rng(22), 1_000_000
    x = rng.normal(size=n) if family == "gaussian" else rng.logistic(scale=np.sqrt(3) / np.pi, size=n)
    k = (np.sign(x) * np.ceil(np.abs(x)) * (np.abs(x) > 0.25) if odd else np.rint(x)).astype(int)
    trellis, index = getattr(TrellisTables, family)(), 20
    assert trellis.evens[odd, index - FIRST] / 65536 == pytest.approx((k % 2 == 0).mean(), abs=0.002)
    for parity in (0, 1):
        rests = k[k % 2 == parity] >> 1
        number = FIRST + 4 * (index - FIRST) + 2 * odd + parity
        middle = int(trellis.tables.half_widths[number])
        found = trellis.tables.table(number)[middle - 2 : middle + 2] / 65536
        np.testing.assert_allclose(found, [(rests == rest).mean() for rest in (-2, -1, 0, 1)], atol=0.003)


def counted(symbols: NDArray[np.int16], linked: Pass) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Parities and rests of a pass, as `TrellisTables.fit` takes them."""
    own, row = symbols[linked.places], linked.scale_idx[linked.places] - FIRST
    odd, parity = linked.are_odd(own).astype(int), own & 1
    parities = np.zeros((2, 56, 2), np.int64)
    np.add.at(parities, (odd, row, parity), 1)
    return parities, histogram(own >> 1, (FIRST + 4 * row + 2 * odd + parity).astype(UINT8), 232)


def test_fitted_trellis_tables_follow_the_data_and_fall_back_on_the_prior() -> None:
    prior = TrellisTables.logistic()
    parities, rests = np.zeros((2, 56, 2), np.int64), np.zeros((232, 2 * HISTOGRAM_REACH + 1), np.int64)
    parities[1, 7] = 900_000, 100_000
    parities[0, 3] = 1_000_000, 0
    rests[40, HISTOGRAM_REACH] = rests[40, HISTOGRAM_REACH - 1] = 500_000  # FIRST + 4 * 8
    fitted = TrellisTables.fit(parities, rests)
    assert fitted.evens[1, 7] == pytest.approx(0.9 * 65536, rel=0.001)
    assert 65530 < fitted.evens[0, 3] < 65536
    k = int(fitted.tables.half_widths[40])
    np.testing.assert_allclose(fitted.tables.table(40)[[k - 1, k]], 32768, rtol=0.001)
    is_seen = np.zeros((2, 56), bool)
    is_seen[1, 7] = is_seen[0, 3] = True
    np.testing.assert_array_equal(fitted.evens[~is_seen], prior.evens[~is_seen])
    for index in (0, 38, 39, 41, 231):
        np.testing.assert_array_equal(fitted.tables.table(index), prior.tables.table(index))


def test_fitted_trellis_tables_take_fewer_bits() -> None:
    train, test = random_pass(100_000, 17, FIRST, 40), random_pass(50_000, 18, FIRST, 40)
    symbols, others = ((symbols_for(linked, 19) / 2).astype(INT16) for linked in (train, test))
    fitted = TrellisTables.fit(*counted(symbols, train))
    assert ideal_bits(fitted, others, test) < 0.98 * ideal_bits(TrellisTables.logistic(), others, test)
