"""Random files of torch.save, written opcode by opcode, for fuzz_values.py."""
import random
import struct
import zipfile

# numpy's type strings, and the dtypes that safetensors calls so.
NUMPY = {"f2": "F16", "f4": "F32", "f8": "F64", "i1": "I8", "i2": "I16", "i4": "I32", "i8": "I64", "u1": "U8",
         "u2": "U16", "u4": "U32", "u8": "U64", "b1": "BOOL", "c8": "C64"}
CLASSES = [("FloatStorage", 4), ("HalfStorage", 2), ("LongStorage", 8), ("IntStorage", 4), ("ByteStorage", 1),
           ("BoolStorage", 1), ("ComplexFloatStorage", 8), ("BFloat16Storage", 2), ("UntypedStorage", 1)]
BYTES = 64


class Raw(bytes):
    """Opcodes that leave one value on the stack."""


def glob(module, name):
    return Raw(b"c" + module.encode() + b"\n" + name.encode() + b"\n")


def op(x):
    """The opcodes of a value."""
    if isinstance(x, Raw):
        return x
    if x is None:
        return b"N"
    if isinstance(x, bool):
        return b"\x88" if x else b"\x89"
    if isinstance(x, int):
        if -(2**31) <= x < 2**31:
            return b"J" + struct.pack("<i", x)
        data = x.to_bytes(x.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(data)]) + data
    if isinstance(x, float):
        return b"G" + struct.pack(">d", x)
    if isinstance(x, str):
        return b"X" + struct.pack("<I", len(x.encode())) + x.encode()
    if isinstance(x, bytes):
        return b"B" + struct.pack("<I", len(x)) + x
    if isinstance(x, tuple):
        return b"(" + b"".join(map(op, x)) + b"t"
    if isinstance(x, list):
        return b"](" + b"".join(map(op, x)) + b"e"
    return b"}(" + b"".join(op(k) + op(v) for k, v in x.items()) + b"u"


def call(function, *args):
    return Raw(op(function) + op(tuple(args)) + b"R")


def new(cls, *args):
    return Raw(op(cls) + op(tuple(args)) + b"\x81")


def build(x, state):
    return Raw(op(x) + op(state) + b"b")


def items(x, *pairs):
    return Raw(op(x) + b"(" + b"".join(op(k) + op(v) for k, v in pairs) + b"u")


def append(x, *more):
    return Raw(op(x) + b"(" + b"".join(map(op, more)) + b"e")


ORDERED = glob("collections", "OrderedDict")
NDARRAY = glob("numpy", "ndarray")


class File:
    """One random file. `odd` is how often something is done that no pickler does."""

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.odd = self.r.choice([0.0, 0.03, 0.1])
        self.slots = 0
        self.first = b""
        self.kept = {}
        self.storages = []
        for key in range(self.r.randint(1, 3)):
            data = self.bytes(BYTES)
            self.storages.append((str(key), self.r.choice(CLASSES), data))

    def is_odd(self, times=1):
        return self.r.random() < self.odd * times

    def bytes(self, size):
        """Random bytes without a NaN of any float: torch copies some floats by way of others, which changes it."""
        return bytes(b & 0xBF if at % 2 else b for at, b in enumerate(self.r.randbytes(size)))

    def keep(self, kind, x):
        """Memoizes a value, so that it can be met again."""
        self.slots += 1
        get = Raw(b"j" + struct.pack("<I", self.slots))
        self.kept.setdefault(kind, []).append(get)
        return Raw(op(x) + b"r" + struct.pack("<I", self.slots))

    def before(self, x):
        """Does something before the root is made, and drops its result."""
        self.first += op(x) + b"0"

    # Numbers
    def number(self, n):
        """An integer, in one of the forms that are read as one."""
        if not self.is_odd(2):
            return n
        text = self.r.choice([b"I%d\n", b"L%dL\n", b"L%d\n", b"I %d\n", b"I0%d\n", b"I+%d\n"])
        scalar = self.scalar("i8", n)
        return self.r.choice([Raw(text % n), scalar, float(n), n == 1, Raw(b"\x8a\x09" + n.to_bytes(9, "little")),
                              -n - 1, 2**63 + n, None, str(n)])

    def scalar(self, code, n):
        form = {"i8": "<q", "f4": "<f", "f8": "<d", "b1": "?"}[code]
        return call(glob("numpy.core.multiarray", "scalar"), self.dtype(code), struct.pack(form, n))

    def sizes(self, dims):
        dims = tuple(self.number(n) for n in dims)
        if not self.is_odd():
            return dims
        changing = self.keep("list", list(dims))
        return self.r.choice([list(dims), call(glob("torch", "Size"), dims), changing])

    # Tensors
    def storage(self, at=None):
        key, (cls, size), _ = self.storages[at if at is not None else self.r.randrange(len(self.storages))]
        if self.is_odd():
            cls, size = self.r.choice(CLASSES)
        module = "torch.storage" if cls == "UntypedStorage" else "torch"
        numel = BYTES // size
        return Raw(op(("storage", glob(module, cls), key, "cpu", self.number(numel))) + b"Q")

    def view(self):
        """Storage, offset, size and stride that fit, most often."""
        at = self.r.randrange(len(self.storages))
        left = BYTES // self.storages[at][1][1]
        offset = self.r.choice([0, 0, 1, 2])
        left -= offset + 1
        shape, strides = [], []
        for _ in range(self.r.randint(0, 2)):
            n, step = self.r.randint(1, 4), self.r.choice([1, 1, 2, 0, 3])
            if (n - 1) * step <= left:
                left -= (n - 1) * step
                shape.append(n)
                strides.append(step)
        return at, (self.storage(at), self.number(offset), self.sizes(shape), self.sizes(strides))

    def metadata(self):
        flags = {self.r.choice(["neg", "conj"]): self.r.choice([True, False])}
        if self.is_odd(3):
            flags = self.r.choice([{"neg": 1}, {"neg": None}, {}, None, {"a": True}, self.keep("dict", {"neg": True})])
        return flags

    def attributes(self):
        state = {self.r.choice(["a", "b"]): self.r.choice([1, None, "x"])}
        if self.is_odd(3):
            name = self.r.choice(["data", "real", "imag", "grad", "requires_grad", "__class__", "names", "_cdata"])
            state[name] = self.r.choice([self.tensor(2), 5, True, glob("torch.nn.parameter", "Parameter")])
        if self.is_odd():
            return self.keep("dict", state)
        return self.r.choice([state, (state, None), (None, state), None])

    def tensor(self, depth=0):
        if self.kept.get("tensor") and self.r.random() < 0.2:
            return self.r.choice(self.kept["tensor"])
        utils = lambda name: glob("torch._utils", name)
        at, view = self.view()
        hooks = call(ORDERED)
        is_typed = self.storages[at][1][0] != "UntypedStorage"
        kind = self.r.randrange(3 if depth > 1 else 10)
        dtype = glob("torch", self.r.choice(["float32", "int16", "uint16", "uint8", "bool"]))
        inner = (lambda: self.tensor(depth + 1)) if not self.is_odd() else self.value
        if kind < 2:
            args = (*view, False, hooks) + ((self.metadata(),) if self.r.random() < 0.2 else ())
            x = call(utils("_rebuild_tensor_v2"), *args)
        elif kind == 2 or not is_typed and kind < 5:
            x = call(utils("_rebuild_tensor_v3"), *view, False, hooks, dtype)
        elif kind == 3:
            x = call(utils("_rebuild_tensor"), *view)
        elif kind == 4:
            name = self.storages[at][1][0].replace("Storage", "Tensor")
            x = build(call(glob("torch", name)), view)
        elif kind == 5:
            x = call(utils("_rebuild_parameter"), inner(), False, hooks)
        elif kind == 6:
            x = call(utils("_rebuild_parameter_with_state"), inner(), False, hooks, self.attributes())
        elif kind == 7:
            cls = self.r.choice([glob("torch", "Tensor"), glob("torch.nn.parameter", "Parameter")])
            function, args = utils("_rebuild_tensor_v2"), (*view, False, hooks)
            if self.r.random() < 0.3:
                function, args = utils("_rebuild_parameter"), (inner(), False, hooks)
            x = call(glob("torch._tensor", "_rebuild_from_type_v2"), function, cls, args, self.attributes())
        elif kind == 8:
            make = self.r.choice([call, new])
            x = make(glob("torch.nn.parameter", "Parameter"), inner(), False)
        else:
            x = call(utils("_rebuild_device_tensor_from_cpu_tensor"), inner(), dtype, "cpu", False)
            if self.r.random() < 0.5:
                x = call(utils("_rebuild_device_tensor_from_numpy"), self.array(), dtype, "cpu", False)
        return self.keep("tensor", self.changed(x))

    def changed(self, x):
        """Items, a state or an append on a tensor or an array, now or later."""
        if not self.is_odd():
            return x
        key = self.r.choice([0, Raw(b")"), (0,), None, True])
        value = self.r.choice([9, 1.5, True, self.tensor(2)])
        state = self.r.choice([self.view()[1], list(self.view()[1]), (self.tensor(2), False, None, False, None),
                               (False, None, None), {"data": self.tensor(2)}, None, (1, (2,), self.dtype("u1"), False, b"ab")])
        kind = self.r.randrange(4)
        if kind == 3:
            late = self.keep("late", x)
            self.before(late)
            get = self.kept["late"][-1]
            self.before(items(get, (key, value)))
            return get
        return [items(x, (key, value)), build(x, state), append(x, value)][kind]

    # numpy
    def dtype(self, code):
        order = self.r.choice("<<<>" if self.is_odd(3) else "<")
        args = (code, False, True)
        if self.is_odd():
            args = self.r.choice([(code, False, False), (code,), (order + code, False, True), (code, 0, 1)])
        x = call(glob("numpy", "dtype"), *args)
        if self.is_odd():
            order = self.r.choice([order.encode(), "=", "|", None, "x"])
        state = (3, order, None, None, None, -1, -1, 0)
        if self.is_odd():
            state = (3, order, self.r.choice([None, (x, (2,))]), self.r.choice([None, ("a",)]), None, -1, -1, 0)
        x = self.keep("dtype", build(x, state))
        return build(x, (3, ">", None, None, None, -1, -1, 0)) if self.is_odd(0.5) else x

    def array(self):
        code = self.r.choice(list(NUMPY))
        shape = tuple(self.r.randint(1, 3) for _ in range(self.r.randint(1, 2)))
        size = int(code[1:])
        for n in shape:
            size *= n
        data = self.bytes(size) if code != "b1" else bytes(self.r.choices(range(2), k=size))
        data = self.keep("bytes", Raw(b"\x96" + struct.pack("<Q", size) + data) if self.r.random() < 0.3 else data)
        core = "numpy.core" if self.r.random() < 0.5 else "numpy._core"
        kind = self.r.randrange(3)
        state = (1, self.sizes(shape), self.dtype(code), self.r.random() < 0.3, data)
        if kind == 0:
            make = call(glob(core + ".multiarray", "_reconstruct"), NDARRAY, (0,), b"b")
            if self.is_odd():
                make = new(NDARRAY, (0,))
            x = build(make, state)
        elif kind == 1:
            order = self.r.choice("CF")
            x = call(glob(core + ".numeric", "_frombuffer"), data, self.dtype(code), shape, order)
        else:
            axes = list(range(len(shape)))
            self.r.shuffle(axes)
            if self.is_odd():
                axes = [self.r.choice([0, -1, 1]) for _ in shape]
            x = call(glob(core + ".numeric", "_frombuffer"), data, self.dtype(code), shape, "K", tuple(axes))
        return self.keep("tensor", self.changed(x))

    # Trees
    def key(self):
        if not self.is_odd(2):
            return self.r.choice(["w", "b", "c.d", "d", "e"])
        return self.r.choice(["w", "1", "True", "None", 1, True, 1.0, 0, False, -0.0, None, b"w", (1,), 2**70,
                              self.scalar("i8", 1), self.scalar("f8", 1.0), Raw(b"S'w'\n"), float("nan"),
                              call(glob("builtins", "str"), "w"), call(glob("builtins", "int"), "1"),
                              call(glob("torch", "Size"), (1,)), self.scalar("b1", True)])

    def value(self, depth=0):
        kind = self.r.randrange(12)
        if kind < 6 or depth > 2:
            return self.tensor()
        if kind == 6:
            return self.array()
        if kind == 7:
            return self.r.choice([1, "text", None, 2.5, self.scalar("f4", 2.5), b"bytes"])
        if kind == 8:
            inner = [self.value(depth + 1) for _ in range(self.r.randint(0, 2))]
            return self.r.choice([list, tuple])(inner)
        if kind == 9:
            return self.module(depth)
        return self.dict(depth)

    def dict(self, depth=0):
        pairs = [(self.key(), self.value(depth + 1)) for _ in range(self.r.randint(1, 4))]
        kind = self.r.randrange(6)
        given = pairs if self.r.random() < 0.5 else pairs[:1]
        listed = [[k, v] for k, v in given]
        flat = Raw(b"}(" + b"".join(op(k) + op(v) for k, v in given) + b"u")
        if kind < 3:
            x = items(call(ORDERED) if kind else Raw(b"}"), *pairs)
        else:
            late = self.keep("list", listed) if self.is_odd(2) else listed
            late = flat if self.r.random() < 0.2 else late
            make = new if self.is_odd(2) else call
            x = [lambda: make(ORDERED, late), lambda: make(glob("collections", "defaultdict"), None, late),
                 lambda: make(glob("collections", "Counter"), late if self.is_odd(2) else flat)][kind - 3]()
            x = items(x, *pairs[1:]) if len(pairs) > 1 else x
        if self.is_odd(2):
            x = items(x, (self.key(), self.value(depth + 1)))
        if self.is_odd():
            x = call(glob("torch.jit._pickle", "restore_type_tag"), x, "Dict[str, Tensor]")
            if self.is_odd(5):
                x = items(x, (self.key(), self.value(depth + 1)))
        x = self.keep("dict", x)
        return build(x, {"_metadata": 1}) if kind in (1, 2) and self.r.random() < 0.3 else x

    def module(self, depth):
        name = lambda: self.r.choice(["w", "b", "c"])
        part = lambda make: Raw(items(call(ORDERED), (name(), make())) if self.r.random() < 0.7 else call(ORDERED))
        parameter = lambda: call(glob("torch._utils", "_rebuild_parameter"), self.tensor(1), False, call(ORDERED))
        transient = Raw(b"\x8f(" + op(name()) + b"\x90") if self.r.random() < 0.5 else Raw(b"\x8f")
        state = {"training": True, "_parameters": part(parameter), "_buffers": part(self.tensor),
                 "_non_persistent_buffers_set": transient,
                 "_modules": part(lambda: self.module(depth + 1)) if depth < 2 else call(ORDERED)}
        for hooks in ("_backward_pre_hooks", "_backward_hooks", "_forward_hooks", "_forward_hooks_with_kwargs",
                      "_forward_hooks_always_called", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs",
                      "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks",
                      "_load_state_dict_post_hooks"):
            state[hooks] = call(ORDERED)
        if self.is_odd():
            state["_non_persistent_buffers_set"] = self.r.choice([["b"], ("b",), {"b": 1}])
        if self.is_odd():
            state["_parameters"] = call(ORDERED, [["w", parameter()]])
        cls = glob("torch.nn.modules.container", self.r.choice(["Sequential", "ModuleDict"]))
        state = self.keep("state", state) if self.is_odd(2) else state
        x = build(new(cls), state)
        if self.is_odd():
            x = build(x, self.r.choice([{"training": False}, {"_parameters": part(parameter)}]))
        if self.is_odd():
            x = self.r.choice([append(x, self.module(3)), items(x, ("x", self.module(3)))])
        if self.is_odd():
            self.before(self.keep("module", x))
            x = self.kept["module"][-1]
            if self.kept.get("state"):
                self.before(items(self.r.choice(self.kept["state"]), ("_parameters", part(parameter))))
        return x

    def pickle(self):
        root = self.dict()
        # What was used is changed afterwards.
        for kind, change in [("list", lambda x: append(x, self.r.choice([1, ["w", self.tensor()]]))),
                             ("dict", lambda x: items(x, (self.r.choice(["neg", "w", "data"]), self.tensor()))),
                             ("tensor", lambda x: items(x, (0, 9))),
                             ("dtype", lambda x: build(x, (3, ">", None, None, None, -1, -1, 0))),
                             ("bytes", lambda x: append(x, 1))]:
            if self.kept.get(kind) and self.is_odd():
                root = Raw(op(root) + op(change(self.r.choice(self.kept[kind]))) + b"0")
        return b"\x80\x04" + self.first + op(root) + b"."

    def write(self, path):
        pickle = self.pickle()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", pickle)
            archive.writestr("a/byteorder", "little")
            for key, (cls, _), data in self.storages:
                # As a storage of bool is read, it has no other bytes.
                data = bytes(b & 1 for b in data) if cls in ("BoolStorage", "UntypedStorage") else data
                archive.writestr("a/data/" + key, data)
            archive.writestr("a/version", "3\n")
