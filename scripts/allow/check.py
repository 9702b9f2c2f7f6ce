"""What a class lets an unpickler do with it, found out from the class itself.

`flags(cls)` returns the flags of README.md, or raises `LeftOut` with the reason. The rules look at what Python looks
at: the method that the MRO finds first. A method that is Python's own (object's, dict's, ...) or that a dataclass or a
namedtuple generated is known; every other one has to be in `reviewed.py`.
"""

import abc
import collections
import dataclasses
import enum
import types

import reviewed

HEAP_TYPE = 1 << 9
# Bases that only keep what they are given. Their __new__ looks at no argument.
KEEPERS = {object, dict, list, set, collections.OrderedDict, collections.defaultdict, collections.deque}
# Bases whose __new__ iterates or converts its arguments.
READERS = {tuple, frozenset, int, float, complex, str, bytes, bytearray}
# Methods that Python and C code call without naming them. A class that has its own may do anything there.
PROTOCOL = """
    __call__ __iter__ __next__ __len__ __length_hint__ __getitem__ __missing__ __contains__ __reversed__ __bool__
    __int__ __float__ __complex__ __index__ __round__ __trunc__ __str__ __repr__ __format__ __bytes__ __fspath__
    __buffer__ __array__ __array_interface__ __array_struct__ __array_finalize__ __array_wrap__ __array_prepare__
    __array_function__ __array_ufunc__ __cuda_array_interface__ __torch_function__ __torch_dispatch__ __dlpack__
    __lt__ __le__ __gt__ __ge__ __eq__ __ne__ __add__ __radd__ __sub__ __rsub__ __mul__ __rmul__ __matmul__
    __rmatmul__ __truediv__ __rtruediv__ __floordiv__ __rfloordiv__ __mod__ __rmod__ __divmod__ __rdivmod__ __pow__
    __rpow__ __lshift__ __rlshift__ __rshift__ __rrshift__ __and__ __rand__ __or__ __ror__ __xor__ __rxor__ __neg__
    __pos__ __abs__ __invert__ __iadd__ __ior__ __iand__
    keys items values get setdefault update pop append extend add
""".split()


# Where the functions are written that dataclasses and namedtuples get as methods.
GENERATORS = ("/dataclasses.py", "/collections/__init__.py", "/reprlib.py", "/typing.py")


class LeftOut(Exception):
    """Why a class is not on the list."""


def name_of(function):
    """The key of a method in reviewed.py."""
    return f"{getattr(function, '__module__', None)}.{getattr(function, '__qualname__', None)}"


def is_native(cls):
    """A class that C code made, and that Python itself or reviewed.py vouches for."""
    return cls in KEEPERS or cls in READERS or cls.__module__ == "builtins" or full_name(cls) in reviewed.NATIVE


def full_name(cls):
    return f"{cls.__module__}.{cls.__qualname__}"


def found(cls, name, ignore=()):
    """The class of the MRO that defines a name, and what it defines; object is left aside."""
    for base in cls.__mro__:
        if name in vars(base) and base not in ignore:
            return base, vars(base)[name]
    return None, None


def plain_function(value):
    """The function that a descriptor wraps."""
    value = getattr(value, "__func__", value)
    code = getattr(value, "__code__", None)
    if code is not None and code.co_name == "__new__" and code.co_filename.endswith(
            ("typing_extensions.py", "warnings.py")):
        value = value.__wrapped__  # a class that @deprecated warns about
    return getattr(value, "fget", None) or value


def is_generated(function):
    """Whether dataclasses or namedtuple compiled it: such methods only compare, print and store fields."""
    code = getattr(function, "__code__", None)
    return code is not None and (code.co_filename == "<string>" or code.co_filename.endswith(GENERATORS))


def is_namedtuple_new(function):
    code = getattr(function, "__code__", None)
    return (code is not None and code.co_filename.startswith("<string>")
            and getattr(function, "__globals__", {}).get("__name__", "").startswith("namedtuple_"))


def is_known(cls, name, table):
    """Whether the method that a class has under a name is native, generated or reviewed."""
    base, value = found(cls, name)
    if base is None or value is None or is_native(base) or base.__module__.startswith(reviewed.READ_BASES):
        return True
    function = plain_function(value)
    return is_generated(function) or name_of(function) in table


def flags(cls):
    """The flags of a class that NEWOBJ may make."""
    if issubclass(cls, enum.Enum):
        return enum_flags(cls)
    if is_struct_sequence(cls):
        return "c"
    check_bases(cls)
    check_lookups(cls)
    result = new_flag(cls) + state_flag(cls) + slots_flag(cls) + container_flags(cls) + call_flag(cls)
    if reviewed.is_module(cls):
        result += "m"
    if needs_care(cls):
        result += "x"
    return result


def enum_flags(cls):
    if not list(cls.__members__):
        raise LeftOut("an Enum without members: calling it makes a class")
    if type(cls) is not enum.EnumMeta and full_name(type(cls)) not in reviewed.METACLASSES:
        raise LeftOut(f"its metaclass is {full_name(type(cls))}")
    for name in ("_missing_", "__hash__", "__eq__", "__del__", "__getattr__", "__getattribute__", "__setstate__"):
        base, value = found(cls, name)
        if base is None or value is None or is_native(base) or base.__module__ == "enum":
            continue
        if name_of(plain_function(value)) not in reviewed.ENUM_METHODS and not is_generated(plain_function(value)):
            raise LeftOut(f"{name} of its own")
    return "e"


def is_struct_sequence(cls):
    return (issubclass(cls, tuple) and isinstance(vars(cls).get("n_sequence_fields"), int)
            and not isinstance(vars(cls).get("__new__"), types.FunctionType))


def check_bases(cls):
    meta = type(cls)
    if meta not in (type, abc.ABCMeta) and full_name(meta) not in reviewed.METACLASSES:
        raise LeftOut(f"its metaclass is {full_name(meta)}")
    for base in cls.__mro__:
        if full_name(base) in reviewed.HARMFUL:
            raise LeftOut(f"{full_name(base)}: {reviewed.HARMFUL[full_name(base)]}")
        if not base.__flags__ & HEAP_TYPE and not is_native(base):
            raise LeftOut(f"{full_name(base)} is written in C")
        for name in ("__class__", "__dict__"):
            value = vars(base).get(name)
            if value is not None and not isinstance(value, types.GetSetDescriptorType):
                raise LeftOut(f"{name} of its own")


def check_lookups(cls):
    """What the unpickler asks an object for, and what a dict asks its keys for."""
    for name, table in (("__del__", ()), ("__getattr__", reviewed.GETATTR), ("__getattribute__", reviewed.GETATTR)):
        if not is_known(cls, name, table):
            raise LeftOut(f"{name} of its own")
    # An object that has no hash can be no key, so that nothing compares it here.
    if cls.__hash__ is not None:
        for name in ("__hash__", "__eq__"):
            if not is_known(cls, name, reviewed.COMPARED):
                raise LeftOut(f"{name} of its own")


def new_flag(cls):
    base, value = found(cls, "__new__")
    if base in KEEPERS or base is BaseException:
        return "n"
    # ExceptionGroup walks over its second argument, OSError hashes its first one.
    if issubclass(base, BaseException) and is_native(base):
        return "N"
    if base in READERS or full_name(base) in reviewed.NATIVE:
        return "N"
    function = plain_function(value)
    if is_namedtuple_new(function) or function is object.__new__:
        return "n"
    if name_of(function) in reviewed.NEW:
        return reviewed.NEW[name_of(function)]
    raise LeftOut("__new__ of its own")


def state_flag(cls):
    base, value = found(cls, "__setstate__")
    if base is None:
        return "t" if is_compared(cls) else "s"
    if base is BaseException:
        # It sets attributes, and args iterates what it is set to.
        return "t" if sets_plainly(cls) else ""
    if name_of(value) in reviewed.SETSTATE:
        if not is_known(cls, "__setattr__", reviewed.SETATTR):
            raise LeftOut("__setattr__ of its own, which its __setstate__ runs")
        return "t" if is_compared(cls) else reviewed.SETSTATE[name_of(value)]
    if full_name(base) in reviewed.NATIVE:
        return reviewed.NATIVE[full_name(base)]
    if name_of(value) == "dataclasses._dataclass_setstate":
        return "t"
    raise LeftOut("__setstate__ of its own")


def is_compared(cls):
    """Whether it can be a key of a dict and its own __hash__ or __eq__ uses what is in its fields."""
    return cls.__hash__ is not None and any(
        reviewed.COMPARED.get(name_of(plain_function(found(cls, name)[1]))) == "t" for name in ("__hash__", "__eq__"))


def sets_plainly(cls):
    """Whether setting an attribute stores it and does nothing else."""
    base, value = found(cls, "__setattr__")
    if not is_native(base) and not is_generated(value):
        return False
    for base in cls.__mro__:
        for value in vars(base).values():
            if isinstance(value, (types.FunctionType, types.MemberDescriptorType, types.GetSetDescriptorType)):
                continue
            if isinstance(value, property):
                if value.fset is not None:
                    return False
            elif hasattr(type(value), "__set__") or hasattr(type(value), "__delete__"):
                return False
    return True


def slots_flag(cls):
    has_own_state = found(cls, "__setstate__")[0] is not None
    return "o" if not has_own_state and sets_plainly(cls) else ""


def container_flags(cls):
    result = ""
    for flag, names, bases in (("a", ("append", "extend"), (list, collections.deque)),
                               ("d", ("__setitem__",), (dict, collections.OrderedDict, collections.defaultdict)),
                               ("u", ("add", "update"), (set,))):
        if all(found(cls, name)[0] in bases for name in names):
            result += flag
    return result


def call_flag(cls):
    """Exceptions are pickled as calls. Those with C's own __init__ only keep their arguments."""
    if not issubclass(cls, BaseException):
        return ""
    return "c" if all(is_native(found(cls, name)[0]) for name in ("__new__", "__init__")) else ""


def needs_care(cls):
    """Whether code that gets such an object may run a method of it that was not reviewed."""
    if reviewed.is_module(cls) and not cls.__module__.startswith(reviewed.READ_BASES):
        return True
    return not all(is_known(cls, name, reviewed.PROTOCOL) for name in PROTOCOL)


def is_plain_data(cls):
    """The kinds of which every class is listed, also in packages that hold much else."""
    return (issubclass(cls, (enum.Enum, BaseException)) or is_struct_sequence(cls) or dataclasses.is_dataclass(cls)
            or issubclass(cls, tuple) and is_namedtuple_new(plain_function(found(cls, "__new__")[1])))
