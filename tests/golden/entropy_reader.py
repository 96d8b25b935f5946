"""A decoder of chunks in plain integers, written from the format document; uses nothing of hvcodec."""

from __future__ import annotations

from collections.abc import Sequence

PRECISION = 24
BLOCK = 1 << 18
ESCAPE_CLASSES = [1 << (23 - m) for m in range(14)] + [1 << 10]


class Stack:
    """The ANS decoder: state below 2**64, words of 32 bits taken from the end."""

    def __init__(self, chunk: bytes) -> None:
        padded = b"\0" + chunk + bytes(-(1 + len(chunk)) % 4) if chunk else b""
        self.words = [int.from_bytes(padded[i : i + 4], "little") for i in range(0, len(padded), 4)]
        self.state = 0
        self.refill()
        self.refill()

    def refill(self) -> None:
        if self.state < 1 << 32 and self.words:
            self.state = self.state << 32 | self.words.pop()

    def pop(self, frequencies: Sequence[int]) -> int:
        quantile = self.state % (1 << PRECISION)
        code, start = 0, 0
        while start + frequencies[code] <= quantile:
            start += frequencies[code]
            code += 1
        self.advance(start, frequencies[code])
        return code

    def pop_bits(self, n_bits: int) -> int:
        frequency = 1 << (PRECISION - n_bits)
        value = self.state % (1 << PRECISION) // frequency
        self.advance(value * frequency, frequency)
        return value

    def advance(self, start: int, frequency: int) -> None:
        quantile = self.state % (1 << PRECISION)
        self.state = (self.state >> PRECISION) * frequency + quantile - start
        self.refill()


def decode(
    chunk: bytes, half_widths: Sequence[int], counts: Sequence[int], passes: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Symbols of each pass of a layer, from the scale indices of each pass."""
    tables = frequencies(half_widths, counts)
    stack = Stack(chunk)
    layers = [decode_blocks(stack, tables, scale_idx) for scale_idx in passes]
    if stack.state or stack.words:
        raise ValueError("the chunk does not end where its symbols end")
    return layers


def frequencies(half_widths: Sequence[int], counts: Sequence[int]) -> list[list[int]]:
    """Frequencies of each table in the order of codes."""
    tables, start = [], 0
    for k in half_widths:
        natural = counts[start : start + 2 * k + 2]
        start += 2 * k + 2
        order = [0] + [s for n in range(1, k + 1) for s in (-n, n)]
        tables.append([256 * natural[s + k] for s in order] + [256 * natural[2 * k + 1]])
    return tables


def decode_blocks(stack: Stack, tables: Sequence[list[int]], indices: Sequence[int]) -> list[int]:
    """Symbols of a pass, from the index of the table of each."""
    symbols = [0] * len(indices)
    for begin in range(0, len(indices), BLOCK):
        block = range(begin, min(begin + BLOCK, len(indices)))
        for index in sorted({indices[p] for p in block}):
            places = [p for p in block if indices[p] == index]
            for place, code in zip(places, run(stack, tables[index], len(places)), strict=True):
                symbols[place] = -(code + 1) // 2 if code % 2 else code // 2
    return symbols


def run(stack: Stack, table: list[int], n_symbols: int) -> list[int]:
    """Codes of consecutive symbols of one scale index: first all of them, then what escaped."""
    escape = len(table) - 1
    codes = [stack.pop(table) for _ in range(n_symbols)]
    escaped = [i for i, code in enumerate(codes) if code == escape]
    half_width = (escape - 1) // 2
    order = max(1, half_width.bit_length() - 3)
    classes = [stack.pop(ESCAPE_CLASSES) for _ in escaped]
    for i, m in zip(escaped, classes, strict=True):
        codes[i] = escape + (((1 << m) - 1) << order) + stack.pop_bits(m + order)
    return codes
