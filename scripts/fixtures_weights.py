#!/usr/bin/env python3
"""Write fixtures/weights/: averages, casts, names, ties, shards and metadata (see that folder's README.md).

    python3.11 -m venv venv
    venv/bin/pip install torch==2.15.0 numpy==2.4.6 safetensors==0.8.0 lightning==2.6.6 huggingface_hub==2.4.0
    ATEN_CPU_CAPABILITY=avx2 venv/bin/python scripts/fixtures_weights.py

Nothing is downloaded. Some cases read fixtures/distributed, deepspeed and frameworks, which must be there. The cases
are in cases_weights_*.py.
"""

import logging
import os
import shutil
import tempfile

import torch

from fixture_book import FIXTURES
from fixture_run import PINNED as BASE, commands, finish, settle_hashes, start

if __name__ == "__main__":
    settle_hashes()
os.environ.update({"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1"})

from cases_weights_averaged import AVERAGED
from cases_weights_book import WeightsBook
from cases_weights_casts import CASTS
from cases_weights_ema import EMA
from cases_weights_metadata import METADATA
from cases_weights_names import NAMES
from cases_weights_owners import OWNERS
from cases_weights_shards import SHARDS
from cases_weights_ties import TIES

PINNED = {**BASE, "lightning": "2.6.6", "huggingface_hub": "2.4.0"}

README = """# What is done to weights: averages, casts, names, ties, shards, metadata

Everything here is written by `scripts/fixtures_weights.py` and the `cases_weights_*.py` it imports; edit those, not
these files.

{commands}

Made with Python {python}, torch {torch}, numpy {numpy}, safetensors {safetensors}, lightning {lightning},
huggingface_hub {huggingface_hub}, on {machine}; run with `ATEN_CPU_CAPABILITY=avx2`. Nothing is
downloaded. Running the script twice gives the same bytes. Weights after a training step may differ in the last bit on
another processor. Some cases read the folders `../distributed`, `../deepspeed` and `../frameworks`, which must be
there first.

The format of `manifest.json` is described in `../README.md`, with two additions. `expect_folder` names a folder whose
files the output folder must equal. `casts` tells for each tensor that changes its dtype, by its name in the output,
what happened to its values, computed by torch in float64: `infinite` (finite values that became infinite or NaN),
`zeroed` (finite values other than 0 that became 0) and `max_error` (the largest difference between values that are
finite before and after; values that were clamped count).

**Averages.** `ema_lightning*` are written by Lightning's real WeightAveraging. Every `AveragedModel` is a real object
of torch that was updated twice; in `*_ddp`, `ema_averaged_below` and `x_ema_fake_*` its names are changed by hand.
`ema_mmengine*` have the layout that MMEngine's runner and EMAHook write, made by hand: averages in `state_dict`, raw
weights under `module.` in `ema_state_dict` with buffers swapped as well, `steps` first, and a `message_hub`.
latent-diffusion's layout is made by hand too. Expected are the tensors of the modules themselves, or those that were
put in.

**Casts** are what `Tensor.to` gives on one thread; tensors with NaN have a multiple of 64 elements, and the script
stops if a result depends on an element's position. torch 2.15 casts to float8_e4m3fn with saturation: finite values
beyond 448 and infinities become ±448, only NaN is NaN; so nothing there counts as `infinite`. float64 goes through
float32 on its way to float8. `--on-overflow clamp` is computed in float64, `where(isfinite(x), x.double().clamp(-max,
max).to(d), x.to(d))` with `max = torch.finfo(d).max`: in bfloat16 itself the limit of float16 would be rounded to
65536.

**Names** are computed by Python's `re`, with the replacement in Python's notation.

**Ties.** `ties_*.alias.safetensors` of the two modules and of transformers' models are what
`safetensors.torch.save_model` writes with metadata `{{"format": "pt"}}`. Its order of several metadata keys is that
of a hash map and differs from run to run: here the keys are sorted, and all other bytes are as written. This holds
for every file with more metadata than `format`. Where `save_model` refuses (no name covers its storage, transposed
ties) or drops what is not the same view, the expectation is that exactly equal views are recorded and everything else
is written in full.

**Shards** are split by `huggingface_hub.split_torch_state_dict_into_shards` from contiguous copies in the order of
the state dict and written by `save` with metadata `{{"format": "pt"}}`; the index is `json.dumps(…, indent=2,
sort_keys=True) + "\\n"`, as transformers writes it. Records of ties go where huggingface_hub's
`save_torch_state_dict` puts them: into the index's metadata, or into the one file's. Units of 1024 and sizes without
a unit are not known there; they are computed here. Sharded input is taken in the order of the shards' names. Where no
option changes what is saved, the script compares with what `save_torch_state_dict` itself saves.

**Hashes** are computed by the published formulas. `sshs_model_hash` (kohya's scripts) is the SHA-256 of all bytes
behind the header. `sshs_legacy_hash` is the first 8 digits of the SHA-256 of 64 KiB from offset 0x100000 of the file
that `safetensors.torch.save` makes of the tensors and the metadata whose keys start with `ss_`; with none, that file
has an empty `__metadata__`. `modelspec.hash_sha256` (ModelSpec) is `0x` and the first hash. The summary has the first
10 digits of the SHA-256 of the whole file, as AUTOMATIC1111's web UI shows it.

{total}

{files}
"""


def main():
    """Write the whole folder."""
    assert torch.backends.cpu.get_cpu_capability() == "AVX2", "run with ATEN_CPU_CAPABILITY=avx2"
    book = WeightsBook(FIXTURES / "weights")
    start(book, PINNED)
    logging.disable(logging.WARNING)
    work = tempfile.mkdtemp()
    os.chdir(work)
    for make in (*EMA, *AVERAGED, *OWNERS, *CASTS, *NAMES, *TIES, *SHARDS, *METADATA):
        torch.manual_seed(0)
        make(book)
    os.chdir(book.folder)
    shutil.rmtree(work)
    finish(book, README, PINNED, commands=commands("fixtures_weights.py", PINNED))


if __name__ == "__main__":
    main()
