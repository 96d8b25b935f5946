"""Laws of entropy coding, for any symbols, scale indices, tables and bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hvcodec.entropy import HISTOGRAM_REACH, SCALES, LayerDecoder, LayerEncoder, Tables, histogram
from hvcodec.errors import CorruptError

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))
import entropy_reader

LAW = settings(deadline=None, max_examples=100)

Pass = tuple[NDArray[np.int16], NDArray[np.uint8]]
FAMILIES = {"gaussian": Tables.gaussian(), "logistic": Tables.logistic()}


@st.composite
def random_tables(draw: st.DrawFn) -> Tables:
    """Tables of any half widths and of counts from flat to nearly certain."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    half_widths = rng.integers(1, draw(st.sampled_from([2, 10, 100, 1024])), 64)
    rows = []
    for n in 2 * half_widths + 2:
        shares = rng.dirichlet(np.full(n, 10.0 ** rng.uniform(-2, 2)))
        rows.append(1 + rng.multinomial(65536 - n, shares))
    return Tables(half_widths, np.concatenate(rows))


any_tables = st.sampled_from(sorted(FAMILIES)).map(FAMILIES.__getitem__) | random_tables()


@st.composite
def one_pass(draw: st.DrawFn) -> Pass:
    """Symbols that mostly fit their scale, with a few that do not."""
    n_symbols = draw(st.one_of(st.integers(0, 8), st.integers(0, 3000)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    low, high = sorted(draw(st.tuples(st.integers(0, 63), st.integers(0, 63))))
    scale_idx = rng.integers(low, high + 1, n_symbols).astype(np.uint8)
    spread = draw(st.sampled_from([0.0, 0.3, 1.0, 4.0]))
    values = np.rint(rng.normal(0, spread * SCALES[scale_idx])).clip(-32767, 32767)
    outliers = draw(st.lists(st.integers(-32767, 32767), max_size=min(n_symbols, 5)))
    values[: len(outliers)] = outliers
    return rng.permutation(values).astype(np.int16), scale_idx


passes = st.lists(one_pass(), max_size=4)


def encode(tables: Tables, layer: list[Pass]) -> bytes:
    encoder = LayerEncoder(tables)
    for symbols, scale_idx in layer:
        encoder.encode(symbols, scale_idx)
    return encoder.chunk()


@LAW
@given(any_tables, passes)
def test_decoding_gives_what_was_encoded(tables: Tables, layer: list[Pass]) -> None:
    decoder = LayerDecoder(encode(tables, layer), tables)
    for symbols, scale_idx in layer:
        np.testing.assert_array_equal(decoder.decode(scale_idx), symbols)
    decoder.finish()


@LAW
@given(any_tables, passes)
def test_a_chunk_is_hardly_longer_than_its_information(tables: Tables, layer: list[Pass]) -> None:
    """The promise is 0.3 % and 6 bytes; two bytes and a rounded one are lost at the start."""
    chunk = encode(tables, layer)
    bits = sum(tables.information_bits(*one) for one in layer)
    assert len(chunk) <= 1.003 * bits / 8 + 3


@LAW
@given(any_tables, passes)
def test_only_zeros_take_no_byte_and_no_chunk_ends_in_zero(tables: Tables, layer: list[Pass]) -> None:
    chunk = encode(tables, layer)
    assert (chunk == b"") == (not any(symbols.any() for symbols, _ in layer))
    assert not chunk.endswith(b"\0")


@settings(LAW, max_examples=50)
@given(any_tables, st.lists(one_pass(), max_size=2))
def test_a_decoder_written_from_the_document_agrees(tables: Tables, layer: list[Pass]) -> None:
    found = entropy_reader.decode(
        encode(tables, layer),
        tables.half_widths.tolist(),
        tables.counts.tolist(),
        [scale_idx.tolist() for _, scale_idx in layer],
    )
    assert found == [symbols.tolist() for symbols, _ in layer]


@LAW
@given(any_tables, st.binary(max_size=200), one_pass())
def test_any_bytes_give_symbols_or_a_corrupt_error(tables: Tables, chunk: bytes, one: Pass) -> None:
    """And what is accepted is what the encoder writes: a chunk has one meaning and one form."""
    scale_idx = one[1]
    try:
        decoder = LayerDecoder(chunk, tables)
        symbols = decoder.decode(scale_idx)
        assert symbols.dtype == np.int16
        assert symbols.shape == scale_idx.shape
        decoder.finish()
    except CorruptError:
        return
    assert encode(tables, [(symbols, scale_idx)]) == chunk


@LAW
@given(any_tables, one_pass(), st.data())
def test_a_damaged_chunk_is_never_taken_for_the_symbols_of_another(
    tables: Tables, one: Pass, data: st.DataObject
) -> None:
    symbols, scale_idx = one
    chunk = encode(tables, [one])
    cut = data.draw(st.integers(0, len(chunk)))
    damaged = chunk[:cut] + data.draw(st.binary(max_size=3)) + chunk[cut + data.draw(st.integers(0, 3)) :]
    try:
        decoder = LayerDecoder(damaged, tables)
        found = decoder.decode(scale_idx)
        decoder.finish()
    except CorruptError:
        return
    assert np.array_equal(found, symbols) == (damaged == chunk)


@settings(LAW, max_examples=25)
@given(st.lists(one_pass(), max_size=3), st.floats(1e-3, 1e3))
def test_any_histogram_gives_tables_that_code(layer: list[Pass], weight: float) -> None:
    counts = np.zeros((64, 2 * HISTOGRAM_REACH + 1), np.int64)
    for one in layer:
        counts += histogram(*one)
    fitted = Tables.fit(counts, weight=weight)  # which checks sums and counts itself
    for symbols, scale_idx in layer:
        decoder = LayerDecoder(encode(fitted, [(symbols, scale_idx)]), fitted)
        np.testing.assert_array_equal(decoder.decode(scale_idx), symbols)
