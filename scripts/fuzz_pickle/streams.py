"""Streams of pickle opcodes, made from a grammar.

A stream is a list of pieces, each mostly one opcode, so that it can be changed and cut down piece by piece.
"""

import struct

NUMBERS = [
    b"0", b"1", b"00", b"01", b"+1", b"-0", b" 1", b"\x0b1", b"1 ", b"007", b"010", b"-010", b"09", b"0x1f", b"0X_1",
    b"0b11", b"0o17", b"1_000", b"_1", b"1__0", b"1_", b"\0", b"\0z", b"\0\0", b" \0", b"1\0zz", b"1\r", b"- 1", b"",
    b"99999999999999999999", b"-9223372036854775808", b"9223372036854775808", b"0777777777777777777777777", b"1L",
    b"LL", b"L", b"5LL", b"0x", b"0x1fL", b"\xd9\xa1", b"1.0", b"1e3",
]
FLOATS = [
    b"1.5", b"nan", b"-inf", b"iNfInItY", b"+nan", b"nan\0x", b" 1.5", b"1.5 ", b"1_0.5", b"1e999", b"-1e999", b"0x1p3",
    b"1.", b".5", b".", b"1e", b"", b"\0", b"infi", b"1,5", b"nan(1)", b"1e-999", b"1.5\x0b", b"1.5\r",
]
ALPHABET = b" \t\x0b\x0c\r+-0123456789_xXobLeE.naif\0"
STRINGS = [
    b"'a'", b'"a"', b"'a' ", b" 'a'", b"'a\\x4'", b"'\\x41'", b"'\\777'", b"'\\7'", b"'a\\'", b"'\\q'", b"'", b"''",
    b"a", b"'a\"", b"'it's'", b"'\\u0041'", b"'\xc3\xa9'", b"'\xff'", b"'\\N{DASH}'", b"'\\\\'",
]
UNICODES = [
    b"a", b"", b"\\u0041", b"\\u12", b"\\\\u0041", b"\\\\\\u0041", b"\\ud83d\\ude00", b"\\U00110000", b"\\U0001F600",
    b"a\\", b"\\", b"\\x41", b"\xe9", b"\\uD800",
]
WORDS = [b"a", b"os", b"w.b", b"\xc3\xa9", b"\xed\xa0\x80", b"\xff", b"", b"a\r", b"with space", b"\0"]
KINDS = [
    "n", "n", "n", "n", "plain", "list", "text", "tuple", "dict", "none", "bytes", "isnone", "istext", "istuple",
    "isbytes", "islist",
]


def sized(opcode, form, data):
    return opcode + struct.pack(form, len(data)) + data


class Grammar:
    """Each method that gives pieces pushes one value, unless it says otherwise or has been made odd."""

    def __init__(self, random):
        self.random = random
        self.memo = []
        self.count = 0
        self.odds = 0.0

    def is_odd(self):
        return self.random.random() < self.odds

    def stream(self):
        """Pieces of a whole pickle, perhaps with others behind it."""
        pieces = []
        # Most streams have to be read for a while, or their ends are never seen.
        self.odds = self.random.choice([0.0, 0.01, 0.03, 0.1, 0.5])
        for _ in range(self.random.choice([1, 1, 1, 2, 3])):
            self.memo = []
            if self.random.random() < 0.4:
                pieces.append(b"\x80" + bytes([6 if self.is_odd() else self.random.randrange(6)]))
            for _ in range(self.random.randrange(6)):
                pieces += self.framed(self.value(3) + [b"0"])
            pieces += self.framed(self.marker())
            if self.random.random() < 0.5:
                pieces += [b"0"] + self.value(3)
            pieces.append(b".")
        return pieces

    def framed(self, pieces):
        """The same pieces, perhaps in a frame that fits or nearly fits."""
        if self.random.random() < 0.75:
            return pieces
        length = sum(map(len, pieces))
        if self.is_odd():
            length += self.random.choice([-9, -2, -1, 1, 2, 9, 1 << 20, 1 << 41, (1 << 63) - 1, 1 << 63, 0])
        return [b"\x95" + struct.pack("<Q", max(length, 0))] + pieces

    def marker(self, _depth=0):
        """A call of a global that no other stream names."""
        self.count += 1
        name = "%s_%d" % (self.random.choice(KINDS), self.count)
        return self.global_of(b"mark", name.encode()) + self.called()

    def value(self, depth):
        if depth == 0 or self.random.random() < 0.3:
            return self.atom()
        sound = [self.container, self.marker, self.memoised, self.junk, self.got, self.persistent, self.new_object]
        odd = [self.changed, self.built, self.buffer, self.anything]
        return self.random.choice(odd if self.is_odd() else sound)(depth - 1)

    def number(self):
        if self.random.random() < 0.2:
            return bytes(self.random.choices(ALPHABET, k=self.random.randrange(6)))
        return self.random.choice(NUMBERS)

    def atom(self, hashable=False):
        choice, pack = self.random.choice, struct.pack
        number = self.random.randrange(256)
        if not self.is_odd():
            word = choice(WORDS[:4])
            return [choice([
                lambda: choice([b"N", b"\x88", b"\x89", b")"] + [b"]", b"}", b"\x8f"] * (not hashable)),
                lambda: choice([b"I1\n", b"I01\n", b"L1L\n", b"F1.5\n", b"I-12345\n", b"Fnan\n", b"S'a'\n", b"Va\n"]),
                lambda: choice([b"K" + bytes([number]), b"M" + pack("<H", number), b"J" + pack("<i", -number)]),
                lambda: b"G" + pack(">d", number),
                lambda: sized(b"\x8a", "<B", bytes([number]) * choice([0, 1, 9])),
                lambda: sized(b"\x8b", "<i", bytes([number]) * choice([0, 1, 9])),
                lambda: sized(choice([b"C", b"\x8c"]), "<B", word),
                lambda: sized(choice([b"X", b"B"]), "<I", word),
                lambda: sized(choice([b"\x8d", b"\x8e"] + [b"\x96"] * (not hashable)), "<Q", word),
                lambda: sized(choice([b"X", b"B"]), "<I", b"long" * choice([1500, 20000])),
            ])()]
        word = choice(WORDS)
        return [choice([
            lambda: choice([b"N", b"\x88", b"\x89", b")", b"]", b"}", b"\x8f"]),
            lambda: choice([b"I", b"I", b"L"]) + self.number() + b"\n",
            lambda: b"F" + choice(FLOATS) + b"\n",
            lambda: b"\x8b" + pack("<i", choice([-1, 0, 1 << 30])),
            lambda: b"S" + choice(STRINGS) + b"\n",
            lambda: b"V" + choice(UNICODES) + b"\n",
            lambda: sized(choice([b"U", b"C", b"\x8c"]), "<B", word),
            lambda: sized(choice([b"T", b"X", b"B"]), "<I", word),
            lambda: sized(choice([b"\x8d", b"\x8e", b"\x96"]), "<Q", word),
            lambda: sized(b"T", "<I", b"long" * choice([1500, 20000])),
            lambda: choice([b"T", b"X", b"B"]) + pack("<I", choice([1 << 31, (1 << 32) - 1])),
            lambda: choice([b"\x8d", b"\x8e", b"\x96"]) + pack("<Q", choice([1 << 40, 1 << 63])),
        ])()]

    def values(self, depth, most=3):
        return sum((self.value(depth) for _ in range(self.random.randrange(most + 1))), [])

    def pairs(self, depth):
        return sum((self.atom(True) + self.value(depth) for _ in range(self.random.randrange(3))), [])

    def container(self, depth):
        items = self.values(depth)
        keys = sum((self.atom(True) for _ in range(3)), [])
        return self.random.choice([
            lambda: [b"("] + items + [self.random.choice([b"t", b"l"])],
            lambda: [b"("] + keys + [b"\x91"],
            lambda: [b"("] + self.pairs(depth) + [b"d"],
            lambda: [b"]", b"("] + items + [b"e"],
            lambda: [b"\x8f", b"("] + keys + [b"\x90"],
            lambda: [b"}", b"("] + self.pairs(depth) + [b"u"],
            lambda: [b"}"] + self.atom(True) + self.value(depth) + [b"s"],
            lambda: [b"]"] + self.value(depth) + [b"a"],
            lambda: self.value(depth) + [b"\x85"],
            lambda: self.value(depth) + self.value(depth) + [b"\x86"],
            lambda: self.value(depth) + self.value(depth) + self.value(depth) + [b"\x87"],
        ])()

    def changed(self, depth):
        """A value of any kind to which something of any kind, or nothing, is done."""
        target = self.random.choice([self.atom, self.marker, lambda: self.value(depth)])()
        small = [b"K\x00"]
        return target + self.random.choice([
            lambda: [b"(", self.random.choice([b"e", b"u", b"\x90"])],
            lambda: [b"("] + self.values(depth) + [b"e"],
            lambda: [b"("] + self.values(depth) + [b"\x90"],
            lambda: [b"("] + self.pairs(depth) + [b"u"],
            lambda: small + [b"a"],
            lambda: self.value(depth) + [b"a"],
            lambda: small + small + [b"s"],
            lambda: self.atom() + self.value(depth) + [b"s"],
        ])()

    def built(self, depth):
        target = self.random.choice([self.atom, self.marker, lambda: self.value(depth)])()
        empty = lambda: [self.random.choice([b"N", b"}", b")", b"]", b"I0\n", b"C\x00", b"\x89", b"\x8f"])]
        state = self.random.choice([
            empty, lambda: empty() + empty() + [b"\x86"], lambda: [b"}"] + self.atom() + self.atom() + [b"s"],
            self.marker, lambda: self.value(depth), lambda: empty() + self.value(depth) + [b"\x86"],
        ])()
        return target + state + [b"b"]

    def memoised(self, depth):
        index = self.random.choice([0, 1, 2, 31, 32, 255, len(self.memo)])
        self.memo.append(index)
        text = self.number() if self.is_odd() else b"%d" % index
        put = self.random.choice([
            b"p" + text + b"\n", b"q" + bytes([index]), b"r" + struct.pack("<I", index), b"\x94",
            b"r\xff\xff\xff\xff" if self.is_odd() else b"\x94",
        ])
        return self.value(depth) + [put]

    def got(self, _depth):
        if not self.memo:
            return self.atom()
        index = self.random.choice(self.memo)
        forms = [b"0%d", b" %d", b"+%d", b"%d\0z", b"\x0b%d ", b"-%d", b"%dL", b"0x%d"] if self.is_odd() else [b"%d"]
        return [self.random.choice([
            b"g" + self.random.choice(forms) % index + b"\n", b"h" + bytes([index]), b"j" + struct.pack("<I", index),
        ])]

    def junk(self, depth):
        """Stack tricks that leave the values below as they are."""
        value = self.value(depth)
        return self.random.choice([
            lambda: [b"("] + self.values(depth) + [b"1"] + value,
            lambda: [b"(", b"0"] + value,
            lambda: value + [b"2", b"0"],
            lambda: [b"("] + value + [b"2", b"1"] + self.atom(),
            lambda: value + self.value(depth) + [b"0"],
        ])()

    def buffer(self, depth):
        target = self.random.choice([self.atom, self.marker, lambda: self.value(depth)])
        return target() + [b"\x98"]

    def persistent(self, depth):
        if self.random.random() < 0.5:
            ids = [b"", b"\xff", b"a b\r", b"\0"] if self.is_odd() else [b"id", b"list_1", b"istext_1"]
            return [b"P" + self.random.choice(ids) + b"\n"]
        return self.value(depth) + [b"Q"]

    def arguments(self):
        if self.is_odd():
            return self.random.choice([self.atom, lambda: self.container(1), lambda: [b"]"], lambda: self.value(1)])()
        return self.random.choice([[b")"], [b"("] + self.values(1) + [b"t"]])

    def called(self):
        """Opcodes that call the value on the stack."""
        if self.random.random() < 0.3:
            return []
        kwargs = self.value(1) if self.is_odd() else [b"}"]
        return self.arguments() + self.random.choice([[b"R"], [b"R"], [b"\x81"], kwargs + [b"\x92"]])

    def new_object(self, depth):
        self.count += 1
        name = b"%s_%d" % (self.random.choice(KINDS).encode(), self.count)
        return self.random.choice([
            lambda: [b"("] + self.global_of(b"mark", name) + self.values(depth) + [b"o"],
            lambda: [b"("] + self.values(depth) + [b"imark\n" + name + b"\n"],
            lambda: [b"("] + (self.value(depth) if self.is_odd() else [b"cmark\n" + name + b"\n"]) + [b"o"],
        ])()

    def global_of(self, module, name):
        if self.is_odd():
            module = self.random.choice([b"", b"a b", b"\xc3\xa9", b"\xff", b"mark\r", b" mark", b"m\0"])
        if self.is_odd():
            name = self.random.choice([b"", b"\xc3\xa9", b"n\r", b"a.b.c"])
        text = lambda word: [self.random.choice([
            lambda: sized(b"\x8c", "<B", word), lambda: sized(b"X", "<I", word), lambda: sized(b"\x8d", "<Q", word),
            lambda: b"V" + word + b"\n", lambda: sized(b"U", "<B", word), lambda: b"S'" + word + b"'\n",
        ])()]
        computed = lambda: self.global_of(b"mark", b"text_0") + [b")", b"R"] if self.is_odd() else self.value(1)
        part = lambda word: computed() if self.is_odd() else text(word)
        if self.random.random() < 0.5:
            return part(module) + part(name) + [b"\x93"]
        return [b"c" + module + b"\n" + name + b"\n"]

    def anything(self, _depth):
        """Anything, however it ends."""
        return [self.random.choice([
            b"\x82\x01", b"\x83\x01\x00", b"\x84\xff\xff\xff\xff", b"\x97", b"\xff", b"t", b"(", b"0", b"1", b"imark\nn\n",
            b"\x80\x04", b"\x80\x02", b"\x95" + bytes(8), b"a", b"s", b"b", b"R", b"\x81", b"o", b"\x93", b"2", b"\x86",
            bytes([self.random.randrange(256)]),
        ])]
