"""How the pickles of a folder use the globals that they name, and what of it allowed.txt does not cover.

    python scripts/allow/uses.py FOLDER...

Nothing is imported or called: every global is a stand-in that records what is done with it.
"""

import _compat_pickle
import collections
import io
import json
import pathlib
import pickle
import pickletools
import sys
import zipfile

ROOT = pathlib.Path(__file__).parent.parent.parent
# What the judge looks at by itself.
JUDGED = {"copyreg _reconstructor", "builtins getattr", "builtins type", "functools reduce", "_functools reduce"}


class Named(type):
    """A stand-in for a global: the class of what it makes."""

    def __new__(cls, key, uses):
        return type.__new__(cls, "Made", (Made,), {"key": key, "uses": uses})

    def __init__(cls, key, uses):
        pass

    def __call__(cls, *args, **kwargs):
        if cls.key in ("copyreg _reconstructor", "copyreg __newobj__") and isinstance(args[0], Named):
            return args[0].made("n", args[1:])
        if cls.key == "builtins getattr" and isinstance(args[0], Named):
            return Named(f"{args[0].key}.{args[1]}", cls.uses)
        return cls.made("c", args)

    def made(cls, flag, parts):
        cls.uses[cls.key].add(flag)
        made = object.__new__(cls)
        made.parts = [*parts]
        if flag == "c" and "i" not in ALLOWED[cls.key]:
            cls.given("is called", parts)
        return made

    def given(cls, how, value):
        """Records what code gets that may run its methods."""
        todo, seen = [value], set()
        while todo:
            value = todo.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, Named) and not set(ALLOWED[value.key]) & set("cewv"):
                cls.uses[value.key].add(f"mentioned where {cls.key} {how}")
            elif isinstance(value, Made):
                if "x" in ALLOWED[type(value).key]:
                    cls.uses[type(value).key].add(f"an object where {cls.key} {how}")
                todo += value.parts
            elif isinstance(value, dict):
                todo += [*value, *value.values()]
            elif isinstance(value, (list, tuple, set, frozenset)):
                todo += value


class Made:
    """A stand-in for an object."""

    def __new__(cls, *args, **kwargs):
        return cls.made("n", args)

    def record(self, flag, *parts):
        type(self).uses[type(self).key].add(flag)
        self.parts += parts

    def __setstate__(self, state):
        self.parts.append(state)
        if "t" in ALLOWED[type(self).key]:
            type(self).given("gets its state", state)
        self.record("o" if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict) else "s")

    def append(self, value):
        self.record("a", value)

    def extend(self, values):
        self.record("a", values)

    def add(self, value):
        self.record("u", value)

    def __setitem__(self, key, value):
        self.record("d", key, value)

    def __call__(self, *args, **kwargs):
        self.record("called")
        return self

    def __hash__(self):
        return id(self)


class Reader(pickle._Unpickler):
    def __init__(self, stream, uses):
        super().__init__(stream, encoding="latin-1")
        self.uses = uses

    def find_class(self, module, name):
        if self.proto < 3:
            module, name = _compat_pickle.NAME_MAPPING.get(
                (module, name), (_compat_pickle.IMPORT_MAPPING.get(module, module), name))
        key = f"{module} {name}"
        self.uses[key]
        return Named(key, self.uses)

    def persistent_load(self, pid):
        return Named("persistent", self.uses)("id")


def pickles(content):
    """Every pickle of a file of torch.save or pickle.dump."""
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return [archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")]
    found, stream = [], io.BytesIO(content)
    while stream.tell() < len(content) and len(found) < 8:
        start = stream.tell()
        try:
            for _ in pickletools.genops(stream):
                pass
        except Exception:
            break
        found.append(content[start:stream.tell()])
    return found


def allowed():
    flags = collections.defaultdict(str)
    for line in (ROOT / "src/verdict/allowed.txt").read_text().splitlines():
        if not line.startswith("#"):
            new, module, *names = line.split()
            for name in names:
                flags[f"{module} {name}"] += new
    return flags


ALLOWED = allowed()


def fits(use, flags):
    same = {"s": "st", "n": "nN", "c": "ce", "called": ""}
    return len(use) <= 6 and any(flag in flags for flag in same.get(use, use))


def main(folders):
    places, total = collections.defaultdict(lambda: collections.defaultdict(set)), 0
    for path in sorted(path for folder in folders for path in pathlib.Path(folder).rglob("*") if path.is_file()):
        if path.name.startswith("x_") or path.suffix in (".json", ".safetensors", ".md"):
            continue
        try:
            found = pickles(path.read_bytes())
        except Exception:
            continue
        for content in found:
            uses = collections.defaultdict(set)
            try:
                Reader(io.BytesIO(content), uses).load()
            except Exception as error:
                print(f"{path}: {type(error).__name__}: {error}", file=sys.stderr)
            total += 1
            for key, flags in uses.items():
                places[key]["mentioned"].add(path.name)
                for flag in flags:
                    places[key][flag].add(path.name)
    flags = ALLOWED
    print(f"{total} pickles, {len(places)} globals")
    for key in sorted(places):
        short = {use: sorted(files)[:2] for use, files in places[key].items()
                 if use != "mentioned" and not fits(use, flags[key]) and key not in JUDGED and key != "persistent"}
        if short:
            print(key, f"[{flags[key]}]", json.dumps(short))


if __name__ == "__main__":
    main(sys.argv[1:])
