#!/usr/bin/env python3
"""Stand in for the CUDA libraries that a torch from PyPI is linked with.

    python interop_cuda.py SITE_PACKAGES

On Linux torch does not start without several GB of NVIDIA's libraries, also where there is no GPU. This writes
libraries of the same names whose functions all return an error, so that torch finds no GPU. What runs on the CPU is
torch's own. Libraries that are there already stay. Needs cc, nm and objdump, which any Rust toolchain for Linux has.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

LIBRARY = re.compile(r"NEEDED\s+(lib(?:cu|nv|nccl)\S+)")
VERSIONS = re.compile(r"required from (\S+):\n((?:\s+0x.*\n)+)")
SYMBOL = re.compile(r" U (_*(?:cu|nv|nccl)[^@\s]*)(?:@+(\S+))?$", re.MULTILINE | re.IGNORECASE)
NO_DEVICE = 100  # cudaErrorNoDevice


def output(*command):
    """Give what a command prints."""
    return subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout


def needed(objects):
    """Give the libraries that are missing, with the symbol versions that each has to define."""
    found = {}
    for path in objects:
        text = output("objdump", "-p", path)
        versions = {library: re.findall(r"\S+$", lines, re.MULTILINE) for library, lines in VERSIONS.findall(text)}
        for library in LIBRARY.findall(text):
            found.setdefault(library, set()).update(versions.get(library, []))
    there = {path.name for path in objects}
    return {library: versions for library, versions in found.items() if library not in there}


def undefined(objects):
    """Give the version of each symbol that none of the objects defines; an empty text where it has none."""
    wanted, defined = {}, set()
    for path in objects:
        wanted.update(SYMBOL.findall(output("nm", "-D", "--undefined-only", path)))
        defined.update(line.split()[-1].split("@")[0] for line in output("nm", "-D", "--defined-only", path).splitlines())
    return {name: version for name, version in wanted.items() if name not in defined}


def write(target, symbols, versions):
    """Compile a library that defines the symbols under their versions."""
    with tempfile.TemporaryDirectory() as folder:
        source, script = pathlib.Path(folder, "stub.c"), pathlib.Path(folder, "stub.map")
        source.write_text("".join(f"int {name}(void) {{ return {NO_DEVICE}; }}\n" for name in symbols))
        script.write_text("".join(
            f"{version} {{ global: {' '.join(f'{name};' for name in symbols if symbols[name] == version)} }};\n"
            for version in sorted(versions)))
        options = [f"-Wl,--version-script,{script}"] if versions else []
        output("cc", "-w", "-fno-builtin", "-shared", "-fPIC", "-o", target, source, f"-Wl,-soname,{target.name}", *options)


def main():
    """Write what is missing beside torch's own libraries."""
    folder = pathlib.Path(sys.argv[1], "torch", "lib")
    objects = sorted(folder.glob("*.so*"))
    missing, symbols = needed(objects), undefined(objects)
    versioned = set().union(*missing.values())
    # Which library a symbol without a version is from is not said, so each gets it.
    rest = dict.fromkeys((name for name, version in symbols.items() if version not in versioned), "")
    for library, versions in sorted(missing.items()):
        own = {name: version for name, version in symbols.items() if version in versions}
        write(folder / library, {**own, **rest}, versions)
    print(f"{len(missing)} CUDA libraries replaced: {' '.join(sorted(missing))}" if missing else "no CUDA library is missing")


if __name__ == "__main__":
    main()
