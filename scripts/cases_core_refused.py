"""The part of make_fixtures.py about what is refused: kinds of tensors, names, dangerous pickles, other files."""

import io
import random
import zipfile

import torch

from fixture_book import Dangerous, normal, small_weights, zip_info


# --- inside a checkpoint --------------------------------------------------------------------------------


def unsupported_cases(book):
    """Tensors that safetensors cannot hold: refused by name, and left out on request."""
    matrix = torch.tensor([[0.0, 1.5], [2.5, 0.0]])
    made = {
        "complex128": ("complex128", torch.tensor([1 + 2j], dtype=torch.complex128)),
        "complex32": ("complex32", torch.tensor([1 + 2j], dtype=torch.complex64).to(torch.complex32)),
        "quantized": ("quantized", torch.quantize_per_tensor(matrix, 0.1, 3, torch.qint8)),
        "sparse_coo": ("sparse", matrix.to_sparse()),
        "sparse_csr": ("sparse", matrix.to_sparse_csr()),
        "nested": ("nested", torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])),
        "meta": ("meta", torch.empty(2, 3, device="meta")),
    }
    for kind, (word, tensor) in made.items():
        file = f"x_{kind}.pt"
        book.save(file, f"a {kind} tensor beside a good one", {"weight": normal(2, 2), "bad.part": tensor})
        book.fail(f"a {kind} tensor is refused by name", file, "unsupported", ["bad.part", word, "--exclude"])
        book.expect(f"a {kind} tensor can be left out", file, {"weight": normal(2, 2)}, "x_unsupported.safetensors",
                    ["--exclude", "bad.*"])


def name_failures(book):
    """Names that cannot be written, and files without tensors."""
    tensor = normal(2)
    made = [
        ("x_collision.pt", "two tensors that flatten to one name",
         {"state_dict": {"a": {"b": tensor}, "a.b": normal(2, seed=1)}},
         "names", ["a.b"]),
        ("x_int_and_str.pt", "an int key and a str key that flatten to one name", {0: tensor, "0": normal(2, seed=1)},
         "names", ['"0"']),
        ("x_metadata_name.pt", "a tensor named __metadata__", {"__metadata__": tensor, "weight": tensor}, "names",
         ["__metadata__"]),
        ("x_surrogate.pt", "a name that is not valid Unicode", {"bad\ud800name": tensor}, "names", ["Unicode"]),
        ("x_no_tensors.pt", "no tensors at all", {"epoch": 3}, "selection", ["no tensors"]),
    ]
    for file, about, value, error, mentions in made:
        book.save(file, about, value)
        book.fail(f"{about}: refused", file, error, mentions)


def ema_failures(book):
    """Averages that are asked for and missing, or of another shape."""
    book.fail("--ema only without averages is an error", "wrap_net.pt", "selection", ["EMA"], ["--ema", "only"])
    book.save("x_ema_shape.ckpt", "an EMA copy of another shape than its parameter", {"state_dict": {
        "model.diffusion_model.out.weight": normal(2, 3), "model_ema.diffusion_modeloutweight": normal(3, 3),
        "model_ema.decay": torch.tensor(0.999), "model_ema.num_updates": torch.tensor(3, dtype=torch.int32)}})
    book.fail("an average of another shape is an error", "x_ema_shape.ckpt", "selection",
              ["model.diffusion_model.out.weight"],
              ["--ema", "only"])


def dangerous_cases(book):
    """A pickle that would run a command."""
    weights = small_weights()
    book.save("x_dangerous.pt", "a checkpoint whose pickle calls os.system (never unpickled here)",
              {"state_dict": weights, "hook": Dangerous("echo this must never run")})
    book.fail("a dangerous pickle is refused", "x_dangerous.pt", "dangerous", ["posix.system"], status=3)
    book.expect("a dangerous pickle is converted on request, without running", "x_dangerous.pt", weights,
                "wrap_state_dict.safetensors",
                ["--allow-dangerous"])


# --- no checkpoints -------------------------------------------------------------------------------------


def not_checkpoints(book):
    """Files that are no checkpoints."""
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "4d7a" * 16 + "\nsize 4265380512\n"
    page = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Please sign in.</body></html>\n"
    plain_zip = io.BytesIO()
    with zipfile.ZipFile(plain_zip, "w") as archive:
        archive.writestr(zip_info("notes/readme.txt"), "not a checkpoint\n")
    made = [
        ("x_empty.pt", "an empty file", b"", ["empty"]),
        ("x_page.pt", "a web page saved as a checkpoint", page.encode(), ["HTML"]),
        ("x_text.pt", "a text file", b"Not a model.\n", ["not a checkpoint", "text"]),
        ("x_lfs.pt", "a Git LFS pointer", pointer.encode(), ["Git LFS"]),
        ("x_random.pt", "random bytes", random.Random(0).randbytes(1000), ["not a checkpoint", "known"]),
        ("x_plain_zip.pt", "a zip without data.pkl", plain_zip.getvalue(), ["data.pkl"]),
    ]
    for file, about, data, mentions in made:
        book.write(file, about, data)
        book.fail(f"{about}: refused", file, "not a checkpoint", mentions)
