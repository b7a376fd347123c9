"""Changes bytes at random, the same for the same seed."""

import json
import re
import struct

# Lengths, counts and offsets that arithmetic trips over.
EXTREMES = [0, 1, 2, 7, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
NUMBER = re.compile(rb"-?\d+(\.\d+)?")


def place(rng, length):
    """A place in a file: more often than not near one of its ends, where headers and footers are."""
    near = min(length, rng.choice((16, 64, 512, length)))
    at = rng.randrange(max(near, 1))
    return at if rng.random() < 0.5 else max(0, length - 1 - at)


def flip(data, rng):
    at = place(rng, len(data))
    data[at] ^= 1 << rng.randrange(8)


def byte(data, rng):
    data[place(rng, len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def number(data, rng):
    size = rng.choice((1, 2, 4, 8))
    at = place(rng, len(data))
    data[at : at + size] = struct.pack("<Q", rng.choice(EXTREMES))[:size]


def cut(data, rng):
    del data[place(rng, len(data)) :]


def remove(data, rng):
    at = place(rng, len(data))
    del data[at : at + rng.choice((1, 4, 8, rng.randrange(1, 200)))]


def insert(data, rng):
    at = place(rng, len(data))
    data[at:at] = rng.randbytes(rng.choice((1, 4, 8, rng.randrange(1, 200))))


def repeat(data, rng):
    at, to = place(rng, len(data)), place(rng, len(data))
    data[to:to] = data[at : at + rng.randrange(1, 100)]


def overwrite(data, rng):
    at, to, size = place(rng, len(data)), place(rng, len(data)), rng.randrange(1, 64)
    data[to : to + size] = data[at : at + size]


def digits(data, rng):
    """Another number where one is written out, as in JSON."""
    found = list(NUMBER.finditer(bytes(data[:20000])))
    if found:
        match = rng.choice(found)
        other = rng.choice((*EXTREMES, -1, -(2**63), 10**30, 0.5, 1e308))
        data[match.start() : match.end()] = str(other).encode()


# Those that leave everything in its place get deeper into a file than those that do not.
IN_PLACE, MOVING = [flip, byte, number, overwrite], [cut, remove, insert, repeat, digits]


def mutated(data, rng):
    """The bytes with one to four changes."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if data:
            rng.choice(IN_PLACE if rng.random() < 0.7 else MOVING)(data, rng)
    return bytes(data)


def values(document):
    """Every value of a JSON document that is in a list or object, with its place."""
    for key, value in document.items() if isinstance(document, dict) else enumerate(document):
        yield document, key, value
        if isinstance(value, (dict, list)):
            yield from values(value)


def other_value(value, rng):
    """A value that does not belong there."""
    if isinstance(value, str) and rng.random() < 0.5:
        return rng.choice(
            ("", value * 2, value[:-1], "../../x", "a\0b", "\x1b[31m", "x" * 70000, "F32", "__metadata__")
        )
    return rng.choice(
        (*EXTREMES, -1, 0.5, 1e308, True, None, "", "x", [], {}, [[]], [value], {"x": value}, [2**63] * 9)
    )


def mutated_json(text, rng):
    """The document with one to three values that do not belong there, are missing or there twice."""
    document = json.loads(text)
    for _ in range(rng.choice((1, 1, 2, 3))):
        found = list(values(document))
        if not found:
            break
        where, key, value = rng.choice(found)
        if rng.random() < 0.25:
            del where[key]
        elif isinstance(where, dict) and rng.random() < 0.2:
            where[f"{key}x"] = value
        else:
            where[key] = other_value(value, rng)
    return json.dumps(document).encode()


def mutated_safetensors(data, rng):
    """A header that is JSON of the right length, and lies."""
    length = struct.unpack("<Q", data[:8])[0]
    header = mutated_json(data[8 : 8 + length], rng)
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def mutate(path, rng):
    """Changes a file in place."""
    data = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.6:
        data = mutated_json(data, rng)
    elif path.suffix == ".safetensors" and rng.random() < 0.5:
        data = mutated_safetensors(data, rng)
    else:
        data = mutated(data, rng)
    path.write_bytes(data)
