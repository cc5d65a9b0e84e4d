"""Inputs of ATST's golden set: weights, heads, signs and waveforms from integers alone.

The arrays beside this file are outputs of the public implementation (Audio-WestlakeU/audiossl, commit ec3a14d; CPU,
float32) for exactly these inputs. Every weight is a small integer times a power of two, so no input is rounded.
"""

import math
from pathlib import Path

import numpy as np
import torch

from fungi_audio.engine.projection import Head
from tests.golden.formula import mix

HERE = Path(__file__).parent
DEPTH = 12
ROWS = 384  # of the projection


def hashed(stream: int, count: int, first: int = 0) -> np.ndarray:
    """Unsigned 32-bit hashes of (stream, first), (stream, first + 1), …"""
    salt = mix(np.array([(stream + 1) * 0x9E3779B9 & 0xFFFFFFFF], np.uint32))
    return mix(mix(np.arange(first, first + count, dtype=np.uint32)) ^ salt)


def symmetric(stream: int, shape: tuple[int, ...]) -> np.ndarray:
    """Multiples of 1/1024 in [-1, 1)."""
    return (((hashed(stream, math.prod(shape)) >> 21).astype(np.float32) - 1024) / 1024).reshape(shape)


def weight(stream: int, key: str, shape: tuple[int, ...]) -> np.ndarray:
    if key.endswith(".weight") and len(shape) == 1:
        return (1 + ((hashed(stream, math.prod(shape)) >> 24).astype(np.float32) - 128) / 512).reshape(shape)
    r = symmetric(stream, shape)
    if key == "pos_embed":
        return r / 4
    if key in ("cls_token", "mask_embed"):
        return r / 2
    return r / 8 if key.endswith(("attn.qkv.weight", "patch_embed.weight", ".bias")) else r / 16


def shapes(width: int, clip: bool) -> dict[str, tuple[int, ...]]:
    """Bare names of the encoder, as in the published files."""
    found: dict[str, tuple[int, ...]] = {
        "pos_embed": (1, 251, width),
        "mask_embed": (1, 1, width),
        "patch_embed.patch_embed.weight": (width, 256),
        "patch_embed.patch_embed.bias": (width,),
    }
    for block in (f"blocks.{number}." for number in range(DEPTH)):
        for norm in ("norm1", "norm2"):
            found |= {f"{block}{norm}.weight": (width,), f"{block}{norm}.bias": (width,)}
        found[f"{block}attn.qkv.weight"] = (3 * width, width)
        for name, rows, columns in (
            ("attn.proj", width, width),
            ("mlp.fc1", 4 * width, width),
            ("mlp.fc2", width, 4 * width),
        ):
            found |= {f"{block}{name}.weight": (rows, columns), f"{block}{name}.bias": (rows,)}
    norm = "norm" if clip else "norm_frame"
    found |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    return found | ({"cls_token": (1, 1, width)} if clip else {})


def encoder(width: int, clip: bool) -> dict[str, torch.Tensor]:
    """The teacher's encoder with its bare names."""
    table = shapes(width, clip)
    made = {key: weight(stream, key, table[key]) for stream, key in enumerate(sorted(table))}
    return {key: torch.from_numpy(made[key]) for key in table}


def head(width: int) -> Head:
    """The KL head of an embedding of `width`."""
    parts = symmetric(1000, (width, width)) / 16, symmetric(1001, (width,)) / 16
    return Head(*map(torch.from_numpy, parts))


def project(gradient: torch.Tensor) -> torch.Tensor:
    """``R vec(G) / sqrt(384)`` of gradients `[n, out, in + 1]`."""
    flat = gradient.flatten(1)
    size = flat.shape[1]
    rows = [torch.from_numpy((hashed(1100, size, row * size) >> 31).astype(np.float32)) * 2 - 1 for row in range(ROWS)]
    return torch.stack([flat @ row for row in rows], dim=1) * ROWS**-0.5


def token_sums(values: torch.Tensor, width: int) -> torch.Tensor:
    """Two signed sums of each block's token vectors, `[T, 12, 2]`, of `[T, 12 * width]`."""
    signs = (hashed(1200, DEPTH * 2 * width) >> 31).astype(np.float32).reshape(DEPTH, 2, width) * 2 - 1
    return torch.einsum("tbd,bcd->tbc", values.unflatten(1, (DEPTH, width)), torch.from_numpy(signs)) * width**-0.5


def noise(stream: int, level: int | np.ndarray, samples: int) -> np.ndarray:
    """Integers in [-level, level]."""
    return ((hashed(stream, samples) >> 16).astype(np.int64) * (2 * np.asarray(level) + 1) >> 16) - level


def waveform(which: str, milliseconds: int) -> torch.Tensor:
    """``loud`` or ``quiet``, float32 at 16 kHz; a shorter one is the beginning of a longer one."""
    n = np.arange(16 * milliseconds, dtype=np.int64)
    if which == "loud":
        period = 24 + 7 * (n // 8000 * 5 % 17)
        wave = 28_000 * np.abs(n % period - period // 2) // period - 7000
        wave = (wave + noise(2000, 150 + 2500 * (n // 8000 * 3 % 4), len(n))) * (n // 6000 % 5 != 3)
        wave = wave + np.where(n % 7919 == 0, 12_000, 0)
    else:
        period = 30 + 11 * (n // 12_000 * 3 % 11)
        wave = (np.where(n % period < period // 2, 60, -60) + noise(2001, 20, len(n))) * (n // 5000 % 4 != 2)
    return torch.from_numpy(wave.astype(np.float32) / 32768)
