"""The models of make_big.py: the names, shapes and strides of their tensors."""

import collections
import math

from big_parts import DTYPES, numel_of
from big_stable_diffusion import INTEGERS, STABLE_DIFFUSION_ELEMENTS, stable_diffusion

SMALL_SHAPE = (320,)
MANY_SHAPE = (64,)
KERNEL = 3

# No strides is contiguous, no dtype the one that the file is made with.
Tensor = collections.namedtuple("Tensor", "name shape strides dtype", defaults=[None, None])


def flat(total, tensor_bytes, item_size, small):
    """Give small tensors first, then large ones up to the total size."""
    tensors = [Tensor(f"blocks.{index}.norm.bias", SMALL_SHAPE) for index in range(small)]
    left = total - small * SMALL_SHAPE[0] * item_size
    while left >= 1024 * item_size:
        rows = min(tensor_bytes, left) // (1024 * item_size)
        tensors.append(Tensor(f"blocks.{len(tensors)}.linear.weight", (rows, 1024)))
        left -= rows * 1024 * item_size
    return tensors


def transposed(total, tensor_bytes, item_size, _small):
    """Give matrices m.t() of a contiguous m."""
    side = max(1, math.isqrt(min(total, tensor_bytes) // item_size))
    count = total // (side * side * item_size)
    return [Tensor(f"blocks.{index}.linear.weight", (side, side), (1, side)) for index in range(count)]


def channels_last(total, tensor_bytes, item_size, _small):
    """Give convolutions in the memory format of torch.channels_last."""
    area = KERNEL * KERNEL
    side = max(1, math.isqrt(min(total, tensor_bytes) // (area * item_size)))
    shape, steps = (side, side, KERNEL, KERNEL), (area * side, 1, KERNEL * side, side)
    count = total // (numel_of(shape) * item_size)
    return [Tensor(f"blocks.{index}.conv.weight", shape, steps) for index in range(count)]


def many(total, _tensor_bytes, item_size, _small):
    """Give nothing but short vectors."""
    count = total // (numel_of(MANY_SHAPE) * item_size)
    return [Tensor(f"blocks.{index}.norm.bias", MANY_SHAPE) for index in range(count)]


def sd(total, _tensor_bytes, item_size, _small):
    """Give Stable Diffusion 1.5, made narrower until it has about the total size."""
    share = min(1, total / (STABLE_DIFFUSION_ELEMENTS * item_size))
    tensors = stable_diffusion(math.sqrt(share))
    return [Tensor(name, shape, None, DTYPES.get(INTEGERS.get(name))) for name, shape in tensors.items()]


MODELS = {"flat": flat, "many": many, "transposed": transposed, "channels_last": channels_last, "sd": sd}
