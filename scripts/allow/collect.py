"""Write as JSON what one environment has: `python collect.py PACKAGE...`, run by __main__.py in each environment.

The answer has `flags` (module, qualified name, flags), `left_out` (module, qualified name, reason), `curated` and
`rules`, the names of curated.py that exist here, and `elsewhere`. `PACKAGE:plain` lists only enums, dataclasses, namedtuples and
exceptions of a package; `standard` stands for Python's standard library.
"""

import contextlib
import enum
import importlib
import io
import itertools
import json
import os
import pkgutil
import sys
import warnings

import check
import curated

# Tests, programs, and compilers and their helpers, whose objects no checkpoint holds.
SKIPPED = ("torch.testing", "torch.utils.benchmark", "torch.utils.hipify", "torch.utils.tensorboard", "torch.contrib",
           "torch._export", "torch._functorch", "torch._higher_order_ops", "torch._inductor", "torch._native",
           "torch._vendor", "torch.onnx", "torch.package", "torch._dynamo.backends", "torch._dynamo.repro",
           "torch._dynamo.test_", "torch._dynamo.variables", "torch.distributed.elastic", "torch.distributed.launch",
           "torch.distributed.pipelining", "torch.distributed.run", "torch.fx.experimental", "numpy.f2py",
           "numpy.distutils", "numpy.testing", "numpy._pyinstaller", "numpy.array_api", "transformers.models",
           "omegaconf.vendor", "omegaconf.grammar", "_pyrepl", "antigravity", "ctypes.test", "distutils", "idlelib",
           "lib2to3", "sqlite3.test", "test", "this", "tkinter", "turtle")
SKIPPED_PARTS = {"__main__", "tests", "test", "conftest", "setup"}
# Packages of which every class is listed that passes, although only plain data is of the package around them: a
# class that is never saved only adds to what an attacker may use.
WHOLE = {
    "torch.amp", "torch.ao", "torch.cuda.amp", "torch.distributed._mesh_layout",
    "torch.distributed._tensor.placement_types", "torch.distributed.checkpoint.metadata",
    "torch.distributed.device_mesh", "torch.distributed.remote_device", "torch.distributed.tensor.placement_types",
    "torch.distributions", "torch.nn", "torch.optim", "torch.quantization", "torch.torch_version", "torch.utils.data",
    "torch.utils.hooks", "torch.utils._ordered_set"}


def is_skipped(name):
    return name.startswith(SKIPPED) or not SKIPPED_PARTS.isdisjoint(name.split(".")) or "-" in name


def import_all(package):
    """Import a package and everything below it that can be imported."""
    todo = [package]
    while todo:
        name = todo.pop()
        if is_skipped(name):
            continue
        try:
            module = importlib.import_module(name)
        except BaseException:  # a module that needs what is not installed, or ends the program
            continue
        spec = getattr(module, "__spec__", None)
        places = spec and spec.submodule_search_locations
        todo += [found.name for found in pkgutil.iter_modules(places or [], name + ".")]


def standard_modules():
    try:
        return sorted(sys.stdlib_module_names)
    except AttributeError:
        return sorted({os.path.splitext(name)[0] for name in os.listdir(os.path.dirname(os.__file__))
                       if name.isidentifier() or name.endswith(".py")} | set(sys.builtin_module_names))


def is_below(name, packages):
    """Whether a module is one of the packages or lies below one."""
    return not packages.isdisjoint(itertools.accumulate(name.split("."), "{}.{}".format))


def classes(roots):
    """Every class that is defined below the packages, those inside of classes too."""
    seen, todo = set(), []
    for name, module in list(sys.modules.items()):
        if is_below(name, roots):
            todo += list(getattr(module, "__dict__", {}).values())
    while todo:
        value = todo.pop()
        if not isinstance(value, type) or value in seen:
            continue
        if not isinstance(value.__module__, str) or not is_below(value.__module__, roots):
            continue
        seen.add(value)
        todo += list(vars(value).values())
    return seen


def elsewhere(roots):
    """Names of modules that hold something else than a class of that name: what they hold, `None` if no class."""
    found = []
    for module, value in list(sys.modules.items()):
        if not is_below(module, roots):
            continue
        for name, held in list(getattr(value, "__dict__", {}).items()):
            if isinstance(held, type):
                if (held.__module__, held.__qualname__) != (module, name):
                    found.append((module, name, f"{held.__module__} {held.__qualname__}"))
            elif callable(held):
                found.append((module, name, None))
    return found


def resolve(module, name):
    """What an unpickler finds under a name."""
    if module not in sys.modules:
        importlib.import_module(module)
    value = sys.modules[module]
    for part in name.split("."):
        value = getattr(value, part)
    return value


def by_rule(module, rule):
    """The names of a module that one of curated.RULES speaks of."""
    if rule == "values":
        kinds = (module.dtype, module.layout, module.memory_format, module.qscheme)
        return [name for name, value in vars(module).items() if isinstance(value, kinds)]
    if rule == "scalars":
        return [name for name, value in vars(module).items()
                if isinstance(value, type) and issubclass(value, module.generic)]
    if rule == "dtypes":
        return [name for name, value in vars(module).items() if isinstance(value, type)]
    return [name for name, value in vars(module).items()
            if type(value).__module__ == "typing" and not name.startswith("_") and type(value).__name__ in (
                "_SpecialForm", "_GenericAlias", "_SpecialGenericAlias", "_TypedCacheSpecialForm", "_CallableType",
                "_TupleType", "_UnionGenericAlias", "_AnyMeta", "_SpecialForm")] + ["Any"]


def main(packages):
    warnings.simplefilter("ignore")
    plain = {name.split(":")[0] for name in packages if name.endswith(":plain")}
    roots = {name.split(":")[0] for name in packages}
    whole = roots - plain | WHOLE
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for name in sorted(roots):
            for package in standard_modules() if name == "standard" else [name]:
                import_all(package)
    if "standard" in roots:
        standard = set(standard_modules())
        roots, plain = roots | standard, plain | standard
        whole -= {"standard"}
    flags, left_out = [], []
    for cls in classes(roots):
        module, name = cls.__module__, cls.__qualname__
        try:
            if is_skipped(module) or "<" in name or resolve(module, name) is not cls:
                continue
        except Exception:
            continue
        only_plain = is_below(module, plain) and not is_below(module, whole)
        if only_plain and not check.is_plain_data(cls) and (module, name) not in curated.CHECKED:
            # It may be plain data in another version.
            left_out.append((module, name, "no plain data"))
            continue
        try:
            flags.append((module, name, check.flags(cls)))
        except check.LeftOut as reason:
            left_out.append((module, name, str(reason)))
    exists = []
    for module, name in sorted(curated.NAMES):
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                resolve(module, name)
            exists.append((module, name))
        except Exception:
            pass
    rules = []
    for module, rule, new, kind in curated.RULES:
        try:
            rules += [(module, name, new, kind) for name in by_rule(importlib.import_module(module), rule)]
        except ImportError:
            pass
    json.dump({"rules": sorted(rules), "flags": sorted(flags), "left_out": sorted(left_out), "curated": exists, "elsewhere": elsewhere(roots),
               "python": sys.version.split()[0]}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
