"""Seeded artifacts: the random sign projection and the heads of the objectives.

Projection of a clip's gradient G (out x in+1): ``R vec(G) / sqrt(k)`` with R in {-1, +1}^(k x out(in+1))
(Johnson-Lindenstrauss with Rademacher entries; FUNGI, Simoncini et al., NeurIPS 2024, arXiv:2407.10964).
The signs are kept as bits: 57 MB for the base model where float32 takes 1.8 GB.
"""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ..errors import ConfigError
from ..files.whole import whole
from ..randomness import generator

ROW_GROUP = 8  # rows of G whose signs start on a byte
CLIPS = {"cpu": 32, "cuda": 256}  # that are projected at once: one number, so that no clip depends on its company
ROW_BLOCK = 16  # rows of G projected at a time: their expanded signs should stay in the CPU's cache


class Signs(NamedTuple):
    """A bit-packed sign matrix.

    Attributes:
        bits: uint8 `[k, rows * columns / 8]`, most significant bit first, 1 for +1; row-major over (rows, columns).
        rows: rows of the gradient (outputs of the target layer).
        columns: columns of the gradient (inputs and bias).
    """

    bits: torch.Tensor
    rows: int
    columns: int

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.bits.numpy().tobytes()).hexdigest()

    def expand(self, first: int, last: int, out: torch.Tensor | None = None) -> torch.Tensor:
        """The signs of gradient rows `first` to `last`, float32 `[k, (last - first) * columns]`.

        Args:
            out: memory to reuse, of the result's size.
        """
        start, stop = (row * self.columns // ROW_GROUP for row in (first, last))
        index = self.bits[:, start:stop].flatten().int()
        if out is not None:
            out = out.view(len(index), ROW_GROUP)
        return torch.index_select(_sign_table(self.bits.device), 0, index, out=out).view(len(self.bits), -1)

    def to(self, device: torch.device | str) -> "Signs":
        return self._replace(bits=self.bits.to(device))


def _sign_table(device: torch.device) -> torch.Tensor:
    """The eight signs of each byte, float32 `[256, 8]`."""
    bytes_ = torch.arange(256, device=device).unsqueeze(1)
    bits = bytes_ >> torch.arange(7, -1, -1, device=device) & 1
    return bits.float() * 2 - 1


def make_signs(k: int, rows: int, columns: int, seed: int) -> Signs:
    """Random signs, the same as the published ``torch.rand(k, rows * columns) > 0.5`` after ``manual_seed(seed)``.

    Raises:
        ConfigError: `rows` is no multiple of eight.
    """
    if rows % ROW_GROUP:
        raise ConfigError(f"the target layer has {rows} outputs; the projection needs a multiple of {ROW_GROUP}")
    random = torch.Generator().manual_seed(seed)
    weights = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8)
    bits = [
        ((torch.rand(rows * columns, generator=random) > 0.5).view(-1, 8) * weights).sum(1, dtype=torch.uint8)
        for _ in range(k)
    ]
    return Signs(torch.stack(bits), rows, columns)


def save_signs(path: str | Path, signs: Signs) -> None:
    with whole(path) as part:
        save_file({"bits": signs.bits}, part, {"shape": json.dumps([signs.rows, signs.columns])})  # one key: one order


def load_signs(path: str | Path) -> Signs:
    with safe_open(path, "pt") as file:
        return Signs(file.get_tensor("bits"), *json.loads(file.metadata()["shape"]))


class Gradients(Protocol):
    """Gradients of some clips, of which a block of rows at a time is formed."""

    @property
    def delta(self) -> torch.Tensor:
        """`[n, positions, out]`."""

    def rows(self, first: int, last: int) -> torch.Tensor:
        """Float32 `[n, last - first, columns]`."""


class Formed(NamedTuple):
    """Gradients that were formed before, float32 `[n, out, columns]`."""

    matrix: torch.Tensor

    @property
    def delta(self) -> torch.Tensor:
        return self.matrix.transpose(1, 2)

    def rows(self, first: int, last: int) -> torch.Tensor:
        return self.matrix[:, first:last]


def project(gradients: Gradients, signs: Signs) -> torch.Tensor:
    """Projected gradients of a batch of clips; the gradients are formed a block of rows at a time.

    Args:
        gradients: of n clips.
        signs: on the same device.

    Returns:
        float32 `[n, k]`: ``R vec(G) / sqrt(k)``.
    """
    n, size = len(gradients.delta), CLIPS[gradients.delta.device.type]
    k, columns = len(signs.bits), signs.columns
    projected = gradients.delta.new_zeros(k, -(-n // size) * size)
    block = gradients.delta.new_zeros(projected.shape[1], ROW_BLOCK * columns)
    expanded = None
    for first in range(0, signs.rows, ROW_BLOCK):
        last = min(first + ROW_BLOCK, signs.rows)
        expanded = signs.expand(first, last, expanded if last - first == ROW_BLOCK else None)
        block[:n, : expanded.shape[1]] = gradients.rows(first, last).flatten(1)
        for out, clips in zip(projected.split(size, dim=1), block.split(size), strict=True):
            out.addmm_(expanded, clips[:, : expanded.shape[1]].T)
    return projected[:, :n].T.contiguous().mul_(k**-0.5)


class Head(NamedTuple):
    """A random linear map on the embedding: weight float32 `[d, d]`, bias `[d]`."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __call__(self, embedding: torch.Tensor) -> torch.Tensor:
        weight, bias = (value.to(embedding) for value in self)
        return embedding @ weight.T + bias


def make_head(width: int, seed: int, name: str) -> Head:
    """A head with `torch.nn.Linear`'s initialisation, from the stream (seed, "head", name)."""
    random = generator(seed, "head", name)
    bound = width**-0.5
    weight = torch.empty(width, width).uniform_(-bound, bound, generator=random)
    return Head(weight, torch.empty(width).uniform_(-bound, bound, generator=random))


def save_head(path: str | Path, head: Head) -> None:
    with whole(path) as part:
        save_file(head._asdict(), part)


def load_head(path: str | Path) -> Head:
    with safe_open(path, "pt") as file:
        return Head(file.get_tensor("weight"), file.get_tensor("bias"))
