"""Laws of entropy coding, for any symbols, scale indices, tables and bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hvcodec import trellis
from hvcodec.entropy import HISTOGRAM_REACH, SCALES, LayerDecoder, LayerEncoder, Tables, TrellisTables, histogram
from hvcodec.errors import CorruptError

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))
import entropy_reader

LAW = settings(deadline=None, max_examples=100)

Pass = tuple[NDArray[np.int16], NDArray[np.uint8]]
FAMILIES = {"gaussian": Tables.gaussian(), "logistic": Tables.logistic()}


@st.composite
def random_tables(draw: st.DrawFn, n_tables: int = 64) -> Tables:
    """Tables of any half widths and of counts from flat to nearly certain."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    half_widths = rng.integers(1, draw(st.sampled_from([2, 10, 100, 1024])), n_tables)
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


def with_damage(chunk: bytes, data: st.DataObject) -> bytes:
    """Up to three bytes replaced by up to three others."""
    cut = data.draw(st.integers(0, len(chunk)))
    return chunk[:cut] + data.draw(st.binary(max_size=3)) + chunk[cut + data.draw(st.integers(0, 3)) :]


@LAW
@given(any_tables, one_pass(), st.data())
def test_a_damaged_chunk_is_never_taken_for_the_symbols_of_another(
    tables: Tables, one: Pass, data: st.DataObject
) -> None:
    symbols, scale_idx = one
    chunk = encode(tables, [one])
    damaged = with_damage(chunk, data)
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


# --- trellis passes --------------------------------------------------------------------------------

LinkedPass = tuple[NDArray[np.int16], trellis.Pass]
SCALAR = FAMILIES["gaussian"]
LOGISTIC = TrellisTables.logistic()


@st.composite
def random_trellis(draw: st.DrawFn) -> TrellisTables:
    """Shares of even symbols from nearly none to nearly all."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([0.01, 1.0, 100.0]))
    evens = np.clip(rng.beta(spread, spread, (2, 56)) * 65536, 1, 65535).astype(np.int32)
    return TrellisTables(evens, draw(random_tables(232)))


any_trellis = st.just(LOGISTIC) | random_trellis()


@st.composite
def linked_pass(draw: st.DrawFn) -> LinkedPass:
    """A pass whose symbols lie in one to four bands, scalar ones and such of a trellis in any mixture."""
    symbols, scale_idx = draw(one_pass())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    linked = trellis.Pass(scale_idx, rng.integers(0, draw(st.integers(1, 4)), len(scale_idx)))
    return symbols.clip(-16383, 16383), linked


linked_passes = st.lists(linked_pass(), max_size=3)


def encode_linked(tables: TrellisTables, layer: list[LinkedPass]) -> bytes:
    encoder = LayerEncoder(SCALAR, tables)
    for symbols, linked in layer:
        encoder.encode_linked(symbols, linked)
    return encoder.chunk()


def grids_of(symbols: NDArray[np.int16], linked: trellis.Pass) -> NDArray[np.bool_]:
    is_odd = np.zeros(len(symbols), bool)
    is_odd[linked.places] = linked.are_odd(symbols[linked.places])
    return is_odd


@LAW
@given(any_trellis, linked_passes)
def test_decoding_a_trellis_gives_what_was_encoded(tables: TrellisTables, layer: list[LinkedPass]) -> None:
    decoder = LayerDecoder(encode_linked(tables, layer), SCALAR, tables)
    for symbols, linked in layer:
        found, is_odd = decoder.decode_linked(linked)
        np.testing.assert_array_equal(found, symbols)
        np.testing.assert_array_equal(is_odd, grids_of(symbols, linked))
    decoder.finish()


@LAW
@given(any_trellis, st.lists(st.booleans().flatmap(lambda is_linked: linked_pass() if is_linked else one_pass())))
def test_passes_of_both_kinds_mix(tables: TrellisTables, layer: list[LinkedPass | Pass]) -> None:
    encoder = LayerEncoder(SCALAR, tables)
    for symbols, how in layer:
        if isinstance(how, trellis.Pass):
            encoder.encode_linked(symbols, how)
        else:
            encoder.encode(symbols, how)
    decoder = LayerDecoder(encoder.chunk(), SCALAR, tables)
    for symbols, how in layer:
        found = decoder.decode_linked(how)[0] if isinstance(how, trellis.Pass) else decoder.decode(how)
        np.testing.assert_array_equal(found, symbols)
    decoder.finish()


@LAW
@given(any_trellis, linked_passes)
def test_a_trellis_chunk_is_hardly_longer_than_its_information(tables: TrellisTables, layer: list[LinkedPass]) -> None:
    bits = sum(tables.information_bits(*one) for one in layer)
    assert len(encode_linked(tables, layer)) <= 1.003 * bits / 8 + 3


@LAW
@given(any_trellis, linked_passes)
def test_only_zeros_in_a_trellis_take_no_byte(tables: TrellisTables, layer: list[LinkedPass]) -> None:
    chunk = encode_linked(tables, layer)
    assert (chunk == b"") == (not any(symbols.any() for symbols, _ in layer))
    assert not chunk.endswith(b"\0")


@LAW
@given(any_trellis, st.binary(max_size=200), linked_pass())
def test_any_bytes_give_a_trellis_or_a_corrupt_error(tables: TrellisTables, chunk: bytes, one: LinkedPass) -> None:
    linked = one[1]
    try:
        decoder = LayerDecoder(chunk, SCALAR, tables)
        symbols, is_odd = decoder.decode_linked(linked)
        assert symbols.dtype == np.int16
        assert symbols.shape == is_odd.shape == linked.scale_idx.shape
        assert np.abs(symbols[linked.places]).max(initial=0) <= 16383
        decoder.finish()
    except CorruptError:
        return
    assert encode_linked(tables, [(symbols, linked)]) == chunk


@LAW
@given(any_trellis, linked_pass(), st.data())
def test_a_damaged_trellis_chunk_is_never_taken_for_the_symbols_of_another(
    tables: TrellisTables, one: LinkedPass, data: st.DataObject
) -> None:
    symbols, linked = one
    chunk = encode_linked(tables, [one])
    damaged = with_damage(chunk, data)
    try:
        decoder = LayerDecoder(damaged, SCALAR, tables)
        found, _ = decoder.decode_linked(linked)
        decoder.finish()
    except CorruptError:
        return
    assert np.array_equal(found, symbols) == (damaged == chunk)
