#!/usr/bin/env python3
"""Write fixtures/plain/: nested plain values, drawn at random, in every pickle protocol.

    python3.11 scripts/make_plain.py

Needs nothing but Python 3.11, whose `random` always draws the same numbers. Running it twice gives the same bytes.
"""

import pathlib
import pickle
import random
import shutil
import sys

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "plain"
COUNT = 12
ALPHABET = ["a", "Z", "0", ".", "_", " ", "'", '"', "\\", "\n", "\r", "\0", "\x7f", "é", "ß", "重", "\u2028", "🙂"]
README = """# Plain values

Written by `scripts/make_plain.py` with Python {version}; edit that, not these files.

`NN_P.pkl` is the nested value number NN as `pickle.dumps` writes it in protocol P. The values are drawn at random from
a fixed seed: None, bools, ints of up to 300 bits, floats, text, bytes, and lists, tuples, dicts, sets and frozensets of
them. `tests/it/properties.rs` compares what is read of them with what the serde-pickle crate reads.
"""


def text(draw):
    """Give a text, short most of the time."""
    return "".join(draw.choices(ALPHABET, k=draw.choice([0, 1, 3, 8, 30])))


def integer(draw):
    """Give an int of any size, of either sign."""
    return draw.getrandbits(draw.choice([1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 300])) * draw.choice([1, -1])


def number(draw):
    """Give a float: ordinary, tiny, huge, or none of that."""
    return draw.choice([draw.uniform(-1, 1), draw.uniform(-1e300, 1e300), 5e-324, 0.0, -0.0, float("inf"), float("nan")])


def leaf(draw):
    """Give a value without parts."""
    make = draw.choice([
        lambda: None, lambda: draw.random() < 0.5, lambda: integer(draw), lambda: number(draw), lambda: text(draw),
        lambda: draw.randbytes(draw.choice([0, 1, 5, 40])),
    ])
    return make()


def key(draw, depth):
    """Give a key of a dict; no two kinds of them are equal."""
    if depth and draw.random() < 0.2:
        return tuple(key(draw, depth - 1) for _ in range(draw.randrange(4)))
    return draw.choice([text, integer])(draw)


def integers(draw):
    """Give what a set can hold: ints, whose order in a set does not depend on the run."""
    return [integer(draw) for _ in range(draw.randrange(6))]


def value(draw, depth):
    """Give any value, nested up to a depth."""
    if not depth or draw.random() < 0.2:
        return leaf(draw)
    parts = range(draw.choice([0, 1, 2, 3, 4, 5, 9]))
    make = draw.choice([
        lambda: [value(draw, depth - 1) for _ in parts], lambda: tuple(value(draw, depth - 1) for _ in parts),
        lambda: {key(draw, 2): value(draw, depth - 1) for _ in parts},
        lambda: draw.choice([set, frozenset])(integers(draw)),
    ])
    return make()


def main():
    """Write the whole folder."""
    if sys.version_info[:2] != (3, 11):
        raise SystemExit("this needs Python 3.11")
    draw = random.Random(1)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    for number_of in range(COUNT):
        drawn = [value(draw, 4) for _ in range(3)]
        for protocol in range(6):
            (FOLDER / f"{number_of:02}_{protocol}.pkl").write_bytes(pickle.dumps(drawn, protocol))
    version = ".".join(str(part) for part in sys.version_info[:3])
    (FOLDER / "README.md").write_text(README.format(version=version))


if __name__ == "__main__":
    main()
