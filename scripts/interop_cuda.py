#!/usr/bin/env python3
"""Stand in for the CUDA libraries that a torch from PyPI is linked with.

    python interop_cuda.py SITE_PACKAGES

On Linux torch does not start without several GB of NVIDIA's libraries, also where there is no GPU. This writes
libraries of the same names whose functions all return an error. Without a GPU nothing calls them; what runs on the CPU
is torch's own. Libraries that are installed stay, and the small runtime (libcudart) should be: it says that there is no
GPU. Needs cc, nm and objdump, which any Rust toolchain for Linux has.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

LIBRARY = re.compile(r"NEEDED\s+(lib(?:cu(?!da\.)|nv|nccl)\S+)")  # not libcuda, the driver: without it there is no GPU
VERSIONS = re.compile(r"required from (\S+):\n((?:\s+0x.*\n)+)")
SYMBOL = re.compile(r" U (_*(?:cu|nv|nccl)[^@\s]*)(?:@+(\S+))?$", re.MULTILINE | re.IGNORECASE)
NO_DEVICE = 100  # cudaErrorNoDevice


def output(*command):
    """Give what a command prints."""
    return subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout


def needed(objects, there):
    """Give the libraries that are not there, with the symbol versions that each has to define."""
    found = {}
    for path in objects:
        text = output("objdump", "-p", path)
        versions = {library: re.findall(r"\S+$", lines, re.MULTILINE) for library, lines in VERSIONS.findall(text)}
        for library in LIBRARY.findall(text):
            found.setdefault(library, set()).update(versions.get(library, []))
    return {library: versions for library, versions in found.items() if library not in there}


def undefined(objects, others):
    """Give the version of each symbol that the objects want and no library defines; an empty text where it has none."""
    wanted, defined = {}, set()
    for path in objects:
        wanted.update(SYMBOL.findall(output("nm", "-D", "--undefined-only", path)))
    for path in [*objects, *others]:
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
    installed = sorted(pathlib.Path(sys.argv[1]).glob("nvidia/**/lib/*.so*"))
    missing = needed(objects, {path.name for path in [*objects, *installed]})
    symbols = undefined(objects, installed)
    versioned = set().union(*missing.values())
    # Which library a symbol without a version is from is not said, so each gets it.
    rest = dict.fromkeys((name for name, version in symbols.items() if version not in versioned), "")
    for library, versions in sorted(missing.items()):
        own = {name: version for name, version in symbols.items() if version in versions}
        write(folder / library, {**own, **rest}, versions)
    print(f"{len(missing)} CUDA libraries replaced: {' '.join(sorted(missing))}" if missing else "no CUDA library is missing")


if __name__ == "__main__":
    main()
