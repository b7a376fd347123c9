"""Decodes entropy-coded values as docs/entropy.md says, with Python's integers. It shares nothing with the library."""

from functools import cache
from math import isqrt

import numpy as np

ESCAPE = 128


def exp2_negative(x):
    """2^32 * 2^(-x / 2^16)."""
    if x >= 32 << 16:
        return 0
    result, root = 1 << 32, 1 << 31
    for bit in range(15, -1, -1):
        root = isqrt(root << 32)
        if x >> bit & 1:
            result = result * root >> 32
    return result >> (x >> 16)


def density(shape, spread, twice):
    narrow = exp2_negative((spread * (4, 3, 2, 4)[shape] << 16) // 12)
    if shape == 0:
        return exp2_negative(3 * twice * twice * narrow >> 16)
    if shape == 1:
        return exp2_negative(12 * isqrt(twice**3 << 29) * (narrow >> 4) >> 28)
    if shape == 2:
        return exp2_negative(6 * twice * narrow >> 16)
    inverse = (1 << 48) // ((1 << 16) + (16 * twice * twice * narrow >> 16))
    return inverse * inverse >> 32


@cache
def table(shape, spread, parity):
    """The symbol, first slot and frequency of each slot of 4,096, and the first magnitude that is escaped."""
    weights = [density(shape, spread, 2 * i + parity) for i in range(256)]
    symbols = [1 if i == 0 and parity == 0 else 2 for i in range(256)]
    mass = [w * s for w, s in zip(weights, symbols, strict=True)]
    total = sum(mass)
    kept = 0
    while kept < 63 and weights[kept] * 8192 >= total:
        kept += 1
    escape = max(1, sum(mass[kept:]) * 4096 // total)

    def scaled(scale):
        return [max(1, (w * scale // total + 8) // 16) for w in weights[:kept]]

    def needed(scale):
        return sum(f * s for f, s in zip(scaled(scale), symbols, strict=False)) + escape

    low, high = 0, 32 * 4096
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if needed(middle) <= 4096 else (low, middle)
    frequencies, left = scaled(low), 4096 - needed(low)
    frequencies[0] += left // symbols[0]
    escape += left % symbols[0]
    slots = []
    for magnitude in range(kept):
        below = ~magnitude if parity else -magnitude
        for symbol in (magnitude, below) if below else (0,):
            slots += [(symbol, len(slots), frequencies[magnitude])] * frequencies[magnitude]
    slots += [(ESCAPE, len(slots), escape)] * escape
    assert len(slots) == 4096
    return slots, kept


def levels(stream, count):
    """The levels of a stream of `count` weights."""
    shape, spread = stream[0] >> 6, stream[0] & 63
    raw_bits = max(0, spread - 30) // 6
    tables = [table(shape, spread - 6 * raw_bits, 1 if raw_bits else parity) for parity in (0, 1)]
    rest = stream[1:]
    head = len(rest) if len(rest) < 3 else 4 - len(rest) % 2
    state, words = int.from_bytes(rest[:head], "little"), iter(np.frombuffer(rest[head:], "<u2").tolist())

    def refill(state):
        return state if state >= 1 << 16 else next(((state << 16 | word) for word in words), state)

    def raw(state, bits):
        return state & (1 << bits) - 1, refill(state >> bits)

    result, path = [], 0
    for _ in range(count):
        parity = path & 1
        slots, kept = tables[parity]
        symbol, start, frequency = slots[state & 4095]
        state = refill(frequency * (state >> 12) + (state & 4095) - start)
        if symbol == ESCAPE:
            head, state = raw(state, 6)
            more = head >> 1
            low, state = raw(state, min(more, 12))
            high, state = raw(state, max(more - 12, 0))
            magnitude = (1 << more | high << 12 | low) - 1 + kept
            negative = ~magnitude if parity or raw_bits else -magnitude
            symbol = negative if head & 1 else magnitude
        if raw_bits:
            low, state = raw(state, raw_bits)
            symbol = symbol << raw_bits | low
        result.append(2 * symbol + parity)
        path = ((path >> 1) ^ (symbol & 1)) | (path & 1) << 1
    assert state == 0xA5 and next(words, None) is None, "the stream does not end where it must"
    return result


def decode(value):
    """The weights of a value with `bits` 0, given as a dict of its fields."""
    assert value["bits"] == 0 and value["scales"] == b"" and value["zero_points"] is None
    length, group_size, codes = value["length"], value["group_size"], value["codes"]
    counts = [min(group_size, length - start) for start in range(0, length, group_size)]
    head = 2 * max(0, len(counts) - 1)
    sizes = np.frombuffer(codes[:head], "<u2").tolist()
    sizes.append(len(codes) - head - sum(sizes))
    result, at = [], head
    for size, count in zip(sizes, counts, strict=False):
        result += levels(codes[at : at + size], count)
        at += size
    return np.float32(value["row_scale"]) * np.array(result, np.float32)
