"""Write src/verdict/allowed.txt: see README.md. `python scripts/allow ENVIRONMENT=PYTHON[:FOLDER]... [--report FILE]`

scripts/allow_list.sh makes the environments and calls this. FOLDER is put on the path of that Python.
"""

import argparse
import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import curated

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
# What each environment is asked for; OTHERS is only in the newest.
FAMILY = ["torch:plain", "torchvision", "torchaudio", "functorch:plain", "numpy", "scipy.sparse"]
OTHERS = ["omegaconf", "lightning:plain", "pytorch_lightning:plain", "lightning_fabric:plain", "transformers:plain",
          "accelerate:plain", "peft:plain", "lightning.pytorch.callbacks", "lightning.pytorch.loggers",
          "pytorch_lightning.callbacks", "pytorch_lightning.loggers"]
FLAGS = "cixenNstoadumvw"
HEADER = """\
# Names that are known only to build data. Written by scripts/allow, whose README.md says what the flags mean.
# Do not edit: change scripts/allow and run scripts/allow_list.sh.
"""
CLASS_KINDS = {
    "e": ("enums", "called with a value, they return one of their members"),
    "call": ("exceptions and results with names", "keep their arguments"),
    "t": ("classes that read their state", "their __setstate__ uses what is in it, as reviewed.py says"),
    "m": ("layers", "torch.nn.Module and what is made of it: attributes"),
    "": ("classes", "attributes and items that nothing looks at"),
}


def collect(python, folder, packages):
    """Run collect.py in one environment."""
    with tempfile.TemporaryDirectory() as work:
        environ = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1",
                   "PYTHONHASHSEED": "0", "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run([python, "-W", "ignore", HERE / "collect.py", *packages], cwd=work, env=environ,
                              stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=True, text=True)
    return json.loads(done.stdout)


def merged(one, other):
    """The flags that hold in two versions."""
    both = set(one) & set(other)
    for strict, loose in (("t", "s"), ("N", "n")):
        if {strict, loose} <= set(one) | set(other) and set(one) & {strict, loose} and set(other) & {strict, loose}:
            both = both - {loose} | {strict}
    return in_order(both | {flag for flag in one + other if flag in "xm"})


def in_order(flags):
    """The flags each once; the stricter reading of a state or a __new__ wins."""
    flags = set(flags) - {"s"} if "t" in flags else set(flags)
    flags = flags - {"n"} if "N" in flags else flags
    return "".join(sorted(flags, key=FLAGS.index))


def class_kind(flags):
    if "e" in flags:
        return "e"
    if "c" in flags:
        return "call"
    return "m" if "m" in flags else "t" if "t" in flags else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("environments", nargs="+", metavar="NAME=PYTHON[:FOLDER]")
    parser.add_argument("--report", type=pathlib.Path, help="where the names that were left out are written")
    options = parser.parse_args()
    flags, left_out, exists, rules = {}, collections.defaultdict(dict), set(), {}
    elsewhere = collections.defaultdict(set)
    for environment in options.environments:
        name, _, place = environment.partition("=")
        python, _, folder = place.partition(":")
        packages = ["standard"] if name.startswith("python") else FAMILY + (OTHERS if name == "current" else [])
        found = collect(python, folder, packages)
        for module, cls, new in found["flags"]:
            flags[module, cls] = merged(flags[module, cls], new) if (module, cls) in flags else in_order(new)
        for module, cls, reason in found["left_out"]:
            left_out[module, cls][name] = reason
        for module, one, other in found["elsewhere"]:
            elsewhere[module, one].add(other)
        exists.update(map(tuple, found["curated"]))
        for module, one, new, kind in found["rules"]:
            rules[module, one] = (new, kind)
        print(f"{name}: Python {found['python']}, {len(found['flags'])} classes pass, "
              f"{len(found['left_out'])} are left out", file=sys.stderr)
    for key in left_out:
        flags.pop(key, None)
    # What has a class in one version and a function, or a class from another place, in the next.
    for key, others in elsewhere.items():
        for other in sorted(others, key=str) if key in flags else ():
            real = tuple(other.split(" ", 1)) if other else None
            new = flags.get(real) or curated.NAMES.get(real, ("",))[0]
            if not new:
                left_out[key]["elsewhere"] = f"is {other or 'no class'} in another version"
                flags.pop(key, None)
                break
            flags[key] = merged(flags[key], new)
    for (module, name), new in list(flags.items()):
        for now, before in curated.MOVED.items():
            if module == now or module.startswith(f"{now}."):
                flags.setdefault((before + module.removeprefix(now), name), new)
    write(flags, exists, rules)
    if options.report:
        options.report.write_text("".join(
            f"{module} {name}: {'; '.join(sorted(set(reasons.values())))}\n"
            for (module, name), reasons in sorted(left_out.items())))


def write(flags, exists, rules):
    """One section for each kind, one line for each module and set of flags."""
    exists |= curated.OLDER
    missing = sorted(" ".join(key) for key in set(curated.NAMES) - exists)
    if missing:
        print(f"curated.py has {len(missing)} names that no environment has: {', '.join(missing)}", file=sys.stderr)
    reasons = {kind: reason for kind, reason, _ in curated.KINDS} | curated.RULE_REASONS
    reasons |= {title: reason for title, reason in CLASS_KINDS.values()}
    sections = collections.defaultdict(lambda: collections.defaultdict(set))
    for key, value in rules.items():
        sections[value[1]][key[0], value[0]].add(key[1])
    for key in exists:
        new, kind = curated.NAMES[key]
        # A class that was checked too keeps the flags that the check found.
        new = in_order(new + flags.pop(key, ""))
        sections[kind][key[0], new].add(key[1])
    for (module, name), new in flags.items():
        if set(new) - set("xm"):
            sections[CLASS_KINDS[class_kind(new)][0]][module, new].add(name)
    lines = [HEADER]
    for kind, reason in reasons.items():
        if kind in sections:
            lines.append(f"# {kind}: {reason}\n")
            lines += [f"{new} {module} {' '.join(sorted(names))}\n"
                      for (module, new), names in sorted(sections[kind].items())]
    path = ROOT / "src/verdict/allowed.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(lines))
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
