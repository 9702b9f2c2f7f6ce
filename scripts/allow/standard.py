"""Write src/verdict/standard_library.txt and src/verdict/python2.txt: `python scripts/allow/standard.py PYTHON...`

Each PYTHON tells its modules' names; those from 3.8 on also import every module once, in a process of its own under an
audit hook, to find those that act. What a Python of another system or a version that is not here has stands below.
"""

import argparse
import json
import os
import pathlib
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).parent.parent.parent

# Python 3.14, from its Python/stdlib_module_names.h: what 3.13 does not have.
PYTHON_314 = """
    _ast_unparse _hmac _py_warnings _remote_debugging _types _zstd annotationlib compression
"""
# Known to act, or packages of which most modules do; a name with .* stands for all that is below it, too.
ACTING = {
    "__hello__": "prints",
    "__phello__.*": "prints",
    "antigravity": "opens a web browser",
    # Not of the standard library, but always there with torch.
    "numpy.distutils.*": "starts compilers",
    "numpy.f2py.*": "starts compilers",
    "pip.*": "opens sockets",
    **dict.fromkeys(("numpy._core.tests.*", "numpy.core.tests.*", "numpy.typing.tests.*", "torch.testing._internal.*"),
                    "tests"),
    "idlelib.*": "an editor that starts processes",
    "test.*": "tests: they start processes, write files and open sockets",
    "this": "prints",
    "turtledemo.*": "demonstrations that open windows",
    **dict.fromkeys(("bsddb.test.*", "ctypes.test.*", "distutils.tests.*", "email.test.*", "json.tests.*",
                     "lib2to3.tests.*", "sqlite3.test.*", "tkinter.test.*", "unittest.test.*"), "tests"),
}
# They ask ctypes.util.find_library for a library, which runs ldconfig or gcc; always the same, and uuid is in use.
HARMLESS = {"_ios_support", "_pyrepl._minimal_curses", "uuid"}
PROBE = r'''
import sys
name, seen = sys.argv[1], []
import builtins, os, io, json
WATCHED = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.startfile",
           "socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "webbrowser.open", "os.remove",
           "os.rename", "os.mkdir", "os.rmdir", "os.chdir", "os.chmod", "os.link", "os.symlink", "os.truncate",
           "os.putenv", "os.unsetenv", "shutil.", "urllib.Request", "ftplib.", "smtplib.", "pty.spawn", "os.kill",
           "signal.pthread_kill",
           "pdb.Pdb", "cpython.run_", "ensurepip.", "tempfile.", "winreg.")
def hook(event, args):
    if not armed:
        return
    if event.startswith(WATCHED):
        seen.append(event)
    elif event == "open" and len(args) > 2:
        mode, flags = args[1], args[2]
        if isinstance(mode, str) and set(mode) & set("wax+") or isinstance(flags, int) and flags & 3:
            seen.append("writes a file")
armed = False
sys.addaudithook(hook)
state = lambda: (list(sys.path), list(map(id, sys.meta_path)), list(map(id, sys.path_hooks)), sorted(vars(builtins)),
                 sys.excepthook, sys.displayhook, sys.gettrace(), sys.getrecursionlimit(), os.getcwd(),
                 dict(os.environ), sys.argv[:])
out, err = sys.stdout, sys.stderr
sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
before, armed = state(), True
try:
    __import__(name)
except SystemExit:
    seen.append("ends the program")
except BaseException:
    pass  # a module of another system
armed = False
if sys.stdout.getvalue() if isinstance(sys.stdout, io.StringIO) else True:
    seen.append("prints")
if state() != before:
    seen.append("changes the interpreter: " + ", ".join(what for what, old, new in zip(
        "path meta_path path_hooks builtins excepthook displayhook trace recursion folder environ argv".split(),
        before, state()) if old != new))
json.dump({"seen": sorted(set(seen)), "dotted": [name for name in sys.modules if "." in name]}, out)
out.flush()
os._exit(0)
'''
LIST = r'''
import json, os, pkgutil, sys
names = set(sys.builtin_module_names) | set(getattr(sys, "stdlib_module_names", ()))
lib = os.path.dirname(os.__file__)
places = [lib] + [os.path.join(lib, name) for name in os.listdir(lib) if name.startswith(("plat-", "lib-"))]
for place in places:
    for name in os.listdir(place):
        stem = name.split(".")[0]
        if name.endswith((".py", ".so")) or os.path.exists(os.path.join(place, name, "__init__.py")):
            names.add(stem)
names = sorted(name for name in names if name.replace("_", "a").isalnum() and not name.startswith("_sysconfigdata"))
packages = [name for name in names if any(os.path.exists(os.path.join(place, name, "__init__.py")) for place in places)]
def below(package, place):
    found = []
    for _, name, is_package in pkgutil.iter_modules([place]):
        found.append(package + "." + name)
        if is_package:
            found += below(package + "." + name, os.path.join(place, name))
    return found
modules = list(names)
for name in names:
    place = os.path.join(lib, name)
    if os.path.isdir(place):
        modules += below(name, place)
sys.stdout.write(json.dumps({"names": names, "modules": modules, "packages": packages}))
'''
COMPAT = r'''
import _compat_pickle as c, json
print(json.dumps({
    "module": sorted(c.IMPORT_MAPPING.items()),
    "name": sorted([*old, *new] for old, new in c.NAME_MAPPING.items()),
    "reverse-module": sorted(c.REVERSE_IMPORT_MAPPING.items()),
    "reverse-name": sorted([*old, *new] for old, new in c.REVERSE_NAME_MAPPING.items())}))
'''


def run(python, code, *arguments, **options):
    """Run code in a Python that looks at no settings and no installed packages."""
    return subprocess.run([python, "-E", "-s", "-S", "-c", code, *arguments], stdout=subprocess.PIPE,
                          stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, **options)


def is_below(module, packages):
    """Whether a table names a module, or what it lies below."""
    parts = module.split(".")
    return module in packages or any(".".join(parts[:end]) + ".*" in packages for end in range(1, len(parts) + 1))


def acting(python, modules):
    """What each module does when it is imported, and what has modules below it, as `os` has `os.path`."""
    dotted = set()

    def probe(module):
        with tempfile.TemporaryDirectory() as work:
            try:
                done = run(python, PROBE, module, cwd=work, timeout=60, env={
                    "PATH": os.environ["PATH"], "HOME": work, "BROWSER": "true", "PYTHONDONTWRITEBYTECODE": "1"})
            except subprocess.TimeoutExpired:
                return module, ["waits"]
        answer = json.loads(done.stdout) if done.stdout else {"seen": ["ends the program"], "dotted": []}
        dotted.update(name.split(".")[0] for name in answer["dotted"])
        return module, answer["seen"]
    with ThreadPoolExecutor(2) as pool:
        return {module: seen for module, seen in pool.map(probe, modules) if seen}, dotted


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pythons", nargs="+")
    parser.add_argument("--import", dest="imported", action="append", default=[],
                        help="a Python that imports its modules to find those that act")
    options = parser.parse_args()
    names, packages, found = set(PYTHON_314.split()), {"compression", "string"}, {}
    for python in options.pythons + options.imported:
        here = json.loads(run(python, LIST, check=True).stdout)
        names.update(here["names"])
        packages.update(here["packages"])
        if python in options.imported:
            modules = [name for name in here["modules"] 
                       if not is_below(name, ACTING) and not name.endswith("__main__") and name not in HARMLESS]
            acts, dotted = acting(python, modules)
            packages |= dotted
            for module, seen in acts.items():
                found.setdefault(module, set()).update(seen)
    acts = {**{module: "; ".join(sorted(seen)) for module, seen in found.items()}, **ACTING}
    lines = ["# Modules of Python's standard library, 3.6 to 3.14. A dot marks what has modules below it.\n"
             "# Behind a ! stands what acts when it is imported, and how; with .* also what is below it. Written by\n"
             "# scripts/allow/standard.py.\n"]
    lines += [f"{name}.\n" if name in packages else f"{name}\n" for name in sorted(names)]
    lines += [f"! {module} {reason}\n" for module, reason in sorted(acts.items())]
    (ROOT / "src/verdict/standard_library.txt").write_text("".join(lines))
    tables = [json.loads(run(python, COMPAT, check=True).stdout) for python in options.imported]
    lines = {" ".join([kind, *row]) for table in tables for kind, rows in table.items() for row in rows}
    (ROOT / "src/verdict/python2.txt").write_text(
        "# Python's _compat_pickle, both directions. Written by scripts/allow/standard.py.\n"
        + "".join(f"{line}\n" for line in sorted(lines)))


if __name__ == "__main__":
    main()
