"""Bytes that are nearly valid: a seed with flips, cuts, repeats, rubbish and parts of others."""

from __future__ import annotations

import random
from collections.abc import Sequence

# What parsers meet at their edges, as numbers of several widths and as text.
_EDGES = (
    *(b"\x00", b"\xff", b"\x7f", b"\x80", b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"),
    *(
        b"\xff" * 8,
        b"\x80" * 12,
        b"-1",
        b"1e999",
        b"nan",
        b"9" * 30,
        b"../",
        b"\n",
        b",",
        b'"',
        b"[[[[",
        b"{",
        b"*a",
    ),
    *(b"null", b"true", b"!!int x", b"2001-99-99", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\x00\n"),
)


def mutate(seed: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Change a seed in one to six places."""
    data = bytearray(seed)
    for _ in range(rng.randint(1, 6)):
        at = rng.randint(0, len(data))
        end = min(len(data), at + rng.choice((1, 2, 4, 8, 64, 1024)))
        kind = rng.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at:end]
        elif kind == 2:
            data[at:at] = data[at:end] * rng.choice((1, 2, 50))
        elif kind == 3:
            data[at : at + rng.randint(0, 4)] = rng.choice(_EDGES)
        elif kind == 4:
            data[at:end] = rng.randbytes(end - at)
        elif kind == 5:
            del data[at:]
        else:
            other = rng.choice(others)
            start = rng.randint(0, len(other))
            data[at:end] = other[start : start + end - at]
    return bytes(data)
