"""What CPython's own unpicklers ask for when they read a stream. Nothing of it is imported or called."""

import _codecs
import _pickle
import io
import multiprocessing
import os
import pickle
import resource
import signal

SECONDS = 2
MEMORY = 2 << 30
# Pickles that are read one behind the other, as `pickle.load(file)` again and again.
LOADS = 4


class Meta(type):
    """Classes that stand for globals take items and states themselves, as modules and lists do."""

    def note(cls, *_args, **_kwargs):
        cls.used.add(cls.named)

    append = extend = add = __setstate__ = __setitem__ = note

    def __getitem__(cls, key):
        return key

    def keys(cls):
        return ()

    def __iter__(cls):
        return iter(())


def nothing(*_args, **_kwargs):
    return None


class Plain(metaclass=Meta):
    """Takes every call, and a state as objects without `__setstate__` do."""

    def __new__(cls, *_args, **_kwargs):
        cls.note()
        cls.called.add(cls.named)
        return cls.made()

    @classmethod
    def made(cls):
        return object.__new__(cls)

    __init__ = nothing


class Any(Plain):
    """Takes every call, state and item."""

    __setstate__ = append = extend = add = __setitem__ = nothing

    def __call__(self, *_args, **_kwargs):
        return self

    def __iter__(self):
        return iter(())

    def __getitem__(self, key):
        return key

    def keys(self):
        return ()


# What the first letters of a global's name make of it: a class whose calls give this, or this itself.
CALLS = {"text": lambda: "computed", "tuple": tuple, "dict": dict, "none": nothing, "list": list, "bytes": bytearray}
VALUES = {f"is{kind}": value for kind, value in CALLS.items()}


def stand_in(module, name, used, called):
    kind = name.split("_")[0]
    if kind in VALUES:
        return VALUES[kind]()
    members = {"named": (module, name), "used": used, "called": called}
    if kind in CALLS:
        members["made"] = CALLS[kind]
    return Meta("StandIn", (Plain if kind == "plain" else Any,), members)


def plain(function):
    """A function by which picklers write plain data, where that is what it is given."""
    def call(*args):
        if all(isinstance(argument, (str, bytes, bytearray, list)) for argument in args):
            return function(*args)
        return Any.made()
    return call


# Their results are values of Python's own, which take no calls, states and items.
PLAIN = {("builtins", function.__name__): plain(function) for function in (bytearray, bytes, frozenset, set)}
PLAIN["_codecs", "encode"] = plain(_codecs.encode)
# Python 2's name of the module.
PLAIN |= {("__builtin__", name): function for (module, name), function in PLAIN.items() if module == "builtins"}


def is_module(name):
    """Whether an import may find a module of that name, unless somebody has a file that is called oddly."""
    return all(part.isidentifier() for part in name.split("."))


def recording(reader, asked, used, called):
    class Unpickler(reader):
        def find_class(self, module, name):
            if not is_module(module):
                raise ModuleNotFoundError(module)
            asked.add((module, name))
            return PLAIN.get((module, name)) or stand_in(module, name, used, called)

        def persistent_load(self, pid):
            return stand_in("", pid if isinstance(pid, str) else "", set(), set())

    return Unpickler


READERS = {
    "_pickle.c": (_pickle.Unpickler, io.BytesIO),
    # With `peek`, as of a file.
    "_pickle.c, file": (_pickle.Unpickler, lambda data: io.BufferedReader(io.BytesIO(data))),
    "pickle.py": (pickle._Unpickler, io.BytesIO),
}


def read(data):
    """For each reader the globals that it asks for, uses and calls, and how many pickles it finishes.

    Used is what is called or changed, and what is named in a pickle that is finished.
    """
    result = {}
    for name, (reader, opened) in READERS.items():
        asked, used, called, file, loads = set(), set(), set(), opened(data), 0
        try:
            while loads < LOADS:
                recording(reader, asked, used, called)(file).load()
                loads += 1
                used |= asked
        except Exception:  # whatever the reader stops with, or that it takes too long
            pass
        result[name] = (asked, used, called, loads)
    return result


def serve(connection):
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    # CPython complains there of odd bytearrays.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    def stop(*_):
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    while True:
        try:
            data = connection.recv_bytes()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            result = read(data)
        except TimeoutError:
            result = {}
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.send(result)


class Oracle:
    """A process that reads streams; it is replaced when it dies or hangs."""

    def __init__(self):
        self.process = None

    def read(self, data):
        """As `read`; empty where the process could not say."""
        if self.process is None:
            self.connection, other = multiprocessing.Pipe()
            self.process = multiprocessing.Process(target=serve, args=(other,), daemon=True)
            self.process.start()
            other.close()
        try:
            self.connection.send_bytes(data)
            if self.connection.poll(2 * SECONDS * len(READERS)):
                return self.connection.recv()
        except (EOFError, OSError):
            pass
        self.close()
        return {}

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.connection.close()
            self.process = None
