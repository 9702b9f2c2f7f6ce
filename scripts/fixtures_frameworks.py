#!/usr/bin/env python3
"""Write fixtures/frameworks/: checkpoints as the frameworks around torch write them, most saved by the real ones.

    python3.11 -m venv venv
    venv/bin/pip install torch==2.15.0 numpy==2.4.6 safetensors==0.8.0 lightning==2.6.6 omegaconf==2.4.0 \
        timm==1.0.31 transformers==5.23.0 accelerate==1.15.0 peft==0.21.2 diffusers==0.42.1 \
        ultralytics==8.4.190 ema-pytorch==0.8.3
    venv/bin/python scripts/fixtures_frameworks.py

Nothing is downloaded: every model is tiny and has settled values. The expected outputs are the tensors that the
framework itself gives, or that torch.load gives, written by the safetensors package, never by ckpt2st. The cases
themselves are in cases_frameworks_*.py.
"""

import logging
import os
import shutil
import tempfile

import torch

from fixture_book import FIXTURES, Book
from fixture_run import PINNED as BASE, commands, finish, settle_hashes, start

if __name__ == "__main__":
    settle_hashes()
WORK = tempfile.mkdtemp()
os.environ.update({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1",
                   "YOLO_CONFIG_DIR": WORK, "YOLO_OFFLINE": "1", "YOLO_VERBOSE": "false"})

from cases_frameworks_layouts import (
    embedding_cases, fairseq_cases, generator_cases, hypernetwork_cases, loop_cases, mmengine_cases, speech_cases,
    torchvision_cases, vision_cases, yolov7_case,
)
from cases_frameworks_real import (
    diffusers_cases, lightning_cases, peft_case, timm_cases, trainer_cases, transformers_cases, ultralytics_cases,
)

PINNED = {
    **BASE, "lightning": "2.6.6", "omegaconf": "2.4.0", "timm": "1.0.31", "transformers": "5.23.0",
    "accelerate": "1.15.0", "peft": "0.21.2", "diffusers": "0.42.1", "ultralytics": "8.4.190", "ema-pytorch": "0.8.3",
}

README = """# Checkpoints of frameworks

Everything here is written by `scripts/fixtures_frameworks.py`; edit that, not these files.

{commands}

Made with Python {python} on {machine}. Nothing is downloaded; all models are tiny and have settled values.

**Saved by the real framework:** `lightning*`, `timm*`, the transformers, Trainer, peft and diffusers files,
`ultralytics_best.pt`. The modules, averages and optimizer states in the other `ultralytics*` files, `ema_pytorch.pt`
and `torchvision.pth` are real objects too. The rest has the layout that the projects' code is known to write, saved by
torch.

**Expected outputs** are the tensors of the framework's own `state_dict()`, or those that `torch.load` gives at the path
named in `docs/state-dict.md`, written by safetensors.

Running the script twice gives the same bytes. It starts itself with `PYTHONHASHSEED=0`, which settles the order of
sets. Weights after a training step and optimizer states may differ in the last bit on another processor.

{total}

{files}
"""


def main():
    """Write the whole folder."""
    book = Book(FIXTURES / "frameworks")
    start(book, PINNED)
    logging.disable(logging.WARNING)
    os.chdir(WORK)
    for make in (lightning_cases, timm_cases, transformers_cases, trainer_cases, peft_case, diffusers_cases,
                 ultralytics_cases, yolov7_case, embedding_cases, hypernetwork_cases, loop_cases, torchvision_cases,
                 mmengine_cases, fairseq_cases, speech_cases, vision_cases, generator_cases):
        torch.manual_seed(0)
        make(book)
    os.chdir(book.folder)
    shutil.rmtree(WORK)
    finish(book, README, PINNED, commands=commands("fixtures_frameworks.py", PINNED))


if __name__ == "__main__":
    main()
