"""What bench.py times: its inputs, its rows with what each is paired with, and the targets."""

import collections

from bench_parts import make_batch
from big_layouts import write_file
from big_models import MODELS
from big_parts import DTYPES, Data

TENSOR_BYTES = 16 << 20
SMALL_TENSORS = 200
BATCH_FILES, BATCH_FILE_KIB = 1000, 92
GB = 10**9

# A layout and a model of make_big.py; the size is that of the tensors at full size, in bytes.
Input = collections.namedtuple("Input", "name layout model size what")
# Most that the ratio to the reference may be, or the seconds, or the ratio divided by that of another row.
Target = collections.namedtuple("Target", "limit of")
# The commands run in the folder of the input; rss is in MiB; cold drops the input from the page cache before each run.
Row = collections.namedtuple("Row", "key name input command label reference target rss cold")

SD = Input("sd.ckpt", "zip", "sd", 7_710_000_000,
           "Stable Diffusion 1.5 with EMA as latent-diffusion saved it: 1,831 tensors, float32")
FLAT = Input("flat.ckpt", "zip", "flat", 2 * GB, "float32 matrices of 16 MiB and 200 vectors, stored")
MANY = Input("many.ckpt", "zip", "many", 100_000 * 64 * 4, "100,000 float32 vectors of 64 elements")
BATCH = Input("files", "batch", None, BATCH_FILES * BATCH_FILE_KIB << 10, "a folder of 1,000 checkpoints of 100 KB")
TRANSPOSED = Input("transposed.ckpt", "zip", "transposed", 2 * GB, "float32 matrices of 16 MiB, each m.t() of an m")
CHANNELS_LAST = Input("channels_last.ckpt", "zip", "channels_last", 2 * GB,
                      "float32 convolutions of 3 x 3 and 16 MiB in torch.channels_last")
LEGACY = Input("legacy.bin", "legacy", "flat", 2 * GB, "the tensors of `flat.ckpt` as torch before 1.6 saved them")
DEFLATED = Input("deflated.ckpt", "deflated", "flat", GB, "such tensors in compressed zip entries")
GZIP = Input("gzip.bin", "gzip", "flat", GB, "such tensors in a stream of torch before 1.6, compressed whole")

SCALE = (GB // 4, GB, 4 * GB)


def scaled(given, share):
    """Give an input of a share of the size."""
    return given._replace(size=max(1, int(given.size * share)))


def make_input(folder, given):
    """Write an input."""
    path = folder / given.name
    if given.layout == "batch":
        make_batch(path, max(1, given.size // (BATCH_FILE_KIB << 10)), BATCH_FILE_KIB)
        return
    dtype = DTYPES["f32"]
    tensors = MODELS[given.model](given.size, TENSOR_BYTES, dtype.size, SMALL_TENSORS)
    write_file(path, given.layout, tensors, dtype, Data(dtype))


# --- commands ---------------------------------------------------------------------------------------------


def convert(given, options):
    """Give the command that converts an input into the folder out."""
    out = "out/" if given.layout == "batch" else "out/model.safetensors"
    return ["ckpt2st", "-q", given.name, "-o", out, *options.split()]


def copy(given, durable):
    """Give what the reference is called, and the command that copies the input into the folder out."""
    folder = given.layout == "batch"
    words = ["cp", *["-r"] * folder, given.name, "out/"]
    if not durable:
        return " ".join(words[:-2]), words
    sync, label = ("sync -f out", "cp -r + sync") if folder else (f"sync out/{given.name}", "cp + fsync")
    return label, ["sh", "-c", f"{' '.join(words)} && {sync}"]


def row(key, name, given, options="", target=None, rss=None, cold=False):
    """Give a row; the reference is durable where the conversion is."""
    label, reference = copy(given, durable="--no-sync" not in options)
    return Row(key, name, given, convert(given, options), label, reference, target, rss, cold)


def rows():
    """Give all rows in their order."""
    return [
        row("a1", "SD, fp16, no EMA", SD, "--fp16 --prune-ema --no-sync", Target(0.35, "ratio"), 64),
        row("a2", "SD, durable", SD, "--fp16 --prune-ema"),
        row("b1", "kept", FLAT, "--no-sync", Target(1.05, "ratio"), 64),
        row("b2", "kept, durable", FLAT, "", Target(0.85, "ratio"), 64),
        row("b3", "kept, --verify", FLAT, "--verify --no-sync"),
        row("c1", "to fp16", FLAT, "--dtype fp16 --no-sync"),
        row("c2", "to bf16", FLAT, "--dtype bf16 --no-sync"),
        row("c3", "to fp8-e4m3", FLAT, "--dtype fp8-e4m3 --no-sync"),
        row("c4", "to fp8-e5m2", FLAT, "--dtype fp8-e5m2 --no-sync"),
        row("d1", "small tensors", MANY, "--no-sync", Target(0.5, "seconds"), 256),
        row("e1", "small files", BATCH, "--no-sync"),
        row("e2", "files, durable", BATCH),
        row("f1", "transposed", TRANSPOSED, "--no-sync", Target(3, "b1"), 128),
        row("f2", "channels last", CHANNELS_LAST, "--no-sync", Target(3, "b1"), 128),
        row("g1", "legacy stream", LEGACY, "--no-sync", Target(1.1, "b1"), 64),
        row("h1", "deflated", DEFLATED, "--no-sync"),
        row("h2", "gzip", GZIP, "--no-sync"),
        row("i1", "cold, kept", FLAT, "--no-sync", cold=True),
        row("i2", "cold, to fp16", FLAT, "--dtype fp16 --no-sync", cold=True),
    ]


def scale_rows():
    """Give rows of one conversion at several sizes."""
    made = [one for one in rows() if one.key in ("b1", "c1")]
    return [one._replace(input=FLAT._replace(size=size)) for size in SCALE for one in made]
