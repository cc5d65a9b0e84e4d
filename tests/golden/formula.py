"""Inputs of the formula-based golden set: weights, heads, signs, clips and views from integers alone.

The arrays beside this file are outputs of the public reference implementation
(WalterSimoncini/no-train-all-gain, folder fungi-ssast, commit 7ad3b75) for exactly these inputs. Every
weight is a small integer times a power of two, so no input is rounded.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch

from fungi_audio.engine.projection import Head, Signs

HERE = Path(__file__).parent
WIDTH = 192
MEAN, STD = -6.845978, 5.5654526
VIEW_LEVELS = [[3, 8, 13, 6], [15, 2, 9, 11], [5, 12, 1, 14]]  # sixteenths, [clip][view]
VIEW_SHIFTS = [[-10, 3, 0, 9], [7, -4, -1, 5], [2, -8, 6, -3]]
NEGATIVE_LEVELS = [[4, 10], [7, 13], [2, 15], [9, 5]]
NEGATIVE_SHIFTS = [[-6, 8], [1, -9], [4, -2], [-10, 9]]
N = np.arange(16_000, dtype=np.int64)


def mix(x: np.ndarray) -> np.ndarray:
    x = x ^ (x >> 16)
    x = x * np.uint32(0x7FEB352D)
    x = x ^ (x >> 15)
    x = x * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def hashed(stream: int, count: int) -> np.ndarray:
    salt = mix(np.array([(stream + 1) * 0x9E3779B9 & 0xFFFFFFFF], np.uint32))
    return mix(mix(np.arange(count, dtype=np.uint32)) ^ salt)


def symmetric(stream: int, shape: tuple[int, ...]) -> np.ndarray:
    """Multiples of 1/1024 in [-1, 1)."""
    return (((hashed(stream, math.prod(shape)) >> 21).astype(np.float32) - 1024) / 1024).reshape(shape)


def weight(stream: int, key: str, shape: tuple[int, ...]) -> np.ndarray:
    if key.startswith("p_input"):
        return np.array({"p_input_fdim": 128, "p_input_tdim": 1024}[key])
    if "norm" in key and key.endswith(".weight"):
        return (1 + ((hashed(stream, math.prod(shape)) >> 24).astype(np.float32) - 128) / 512).reshape(shape)
    r = symmetric(stream, shape)
    if key.endswith(("attn.qkv.weight", "pos_embed")):
        return r / 4
    if key.endswith(("patch_embed.proj.weight", ".bias")):
        return r / 8
    return r / 16 if key.endswith(".weight") else r / 2


def state_dict(kind: str) -> dict[str, torch.Tensor]:
    """Weights of the patch or frame model, keys without ``module.``."""
    table = json.loads((HERE / "keys.json").read_text())
    shapes = {**table["keys"], **table[kind]}
    return {key: torch.tensor(weight(i, key, tuple(shapes[key]))) for i, key in enumerate(sorted(shapes))}


def head(stream: int) -> Head:
    """The KL head (1000) or the SimCLR head (1002)."""
    values = symmetric(stream, (WIDTH, WIDTH)) / 16, symmetric(stream + 1, (WIDTH,)) / 16
    return Head(*map(torch.tensor, values))


def signs() -> Signs:
    positive = hashed(1100, WIDTH * WIDTH * (WIDTH + 1)) >= 1 << 31
    return Signs(torch.tensor(np.packbits(positive.reshape(WIDTH, -1), axis=1)), WIDTH, WIDTH + 1)


def tri(period: int, level: int) -> np.ndarray:
    return 4 * level * abs(N % period - period // 2) // period - level


def sq(period: np.ndarray | int, level: int) -> np.ndarray:
    return np.where(N % period < period // 2, level, -level)


def noise(stream: int, level: np.ndarray | int) -> np.ndarray:
    return ((hashed(stream, len(N)) >> 16).astype(np.int64) * (2 * level + 1) >> 16) - level


def clips() -> np.ndarray:
    """Three 16 kHz clips, int16 `[3, 16000]`."""
    fades = tri(80, 9000) * np.minimum(np.minimum(N, 15999 - N), 4000) // 4000 + tri(12, 1500) + noise(2000, 200)
    bursts = noise(2001, np.where(N // 1000 % 4 == 0, 12000, 150)) + np.where(N % 3571 == 0, 15000, 0)
    steps = sq(160 - 16 * (N // 2000), 5000) + 1200 + noise(2002, 800)
    return np.stack([fades, bursts, steps]).astype(np.int16)


def negative_clips() -> np.ndarray:
    made = [
        sq(40 + 24 * m, 1000 + 1500 * m) * (N // (500 * (m + 1)) % 2)
        + tri(200 - 32 * m, 4000)
        + noise(2100 + m, 300 * (m + 1))
        for m in range(4)
    ]
    return np.stack(made).astype(np.int16)


def view(mel: torch.Tensor, stream: int, level: int, shift: int) -> torch.Tensor:
    """One augmented view of an un-normalised log-mel `[frames, mel]`."""
    u = torch.tensor((hashed(stream, mel.numel()) >> 8).astype(np.float32) / 2**24).view_as(mel)
    return torch.roll(mel + (u * (level / 16)) / 10, shift, 0)
