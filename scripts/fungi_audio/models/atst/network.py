"""ATST-Frame and ATST-Clip, frozen: audio spectrogram transformers trained as teacher and student (arXiv:2306.04186).

A token is 64 bands x 4 frames. Long clips are cut into chunks, whose rows lie next to each other in the batch; what a
chunk's tokens weigh in an embedding is one table of weights, so that published and corrected rules are one pass.
Quirks of the published code that are kept: a tail of 1 to 3 frames gives no token and counts as a chunk of silence
(library rule); a chunk of ATST-Clip is divided by the tokens that are left in the clip.
"""

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ...errors import CheckpointError, ConfigError
from ...frontends.dbmel import DbMel
from ...randomness import generator
from ..base import Backbone, Frames, Inputs
from ..blocks import HEAD_WIDTH, Block
from ..checkpoints import Checkpoint, strip
from ..recognise import advice, guess
from .definition import CHUNKS, CROP, DEPTH, OPTIONS, PATCH, WIDTHS, cropped, target_path

log = logging.getLogger(__name__)
PREFIXES = (  # the teacher before the student
    "model.teacher.encoder.",
    "model.student.encoder.",
    "backbone.",
    "encoder.encoder.",
    "encoder.",
    "teacher.",
)
USUAL = {"win_length": 1024, "pos_type": "cut", "avg_blocks": 0}  # of training; names and shapes do not show it
HIDDEN = -1e4  # added to the scores of keys behind the end of a clip, as published; finite for chunks without a token
MILLISECONDS = 40.0  # of a token
LEAST = 1e-6  # added to divisors, as published


class Chunks(NamedTuple):
    """A batch in chunks.

    Attributes:
        frames: float32 `[n, chunks, tokens * PATCH, bands]`.
        valid: tokens of each chunk, int64 `[n, chunks]`.
        left: frames from the chunk's beginning to the clip's end, at least 0, int64 `[n, chunks]`.
    """

    frames: torch.Tensor
    valid: torch.Tensor
    left: torch.Tensor


class ATST(Backbone):
    """The network; options are those of `definition.OPTIONS`."""

    def __init__(self, width: int, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.options = {name: option["default"] for name, option in OPTIONS.items()} | dict(options)
        self.clip = self.options["kind"] == "clip"
        self.chunk = self.options["chunk_frames"] or CHUNKS[self.options["kind"]]
        self.frontend = DbMel(CROP if cropped(self.options) else None)
        self.channels, self.width = width, 2 * width if self.clip else width
        self.target = target_path(self.options["target"])
        self.gradient_tokens = slice(0, 1) if self.options["gradient_tokens"] == "first" else slice(None)
        self.patch_embed = nn.ModuleDict({"patch_embed": nn.Linear(self.frontend.columns * PATCH, width)})
        self.mask_embed = nn.Parameter(torch.zeros(1, 1, width))  # of pretraining; kept with the checkpoint
        self.pos_embed = nn.Parameter(torch.zeros(1, 251, width))
        self.blocks: Any = nn.ModuleList(Block(width, qkv_bias=False) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        if self.clip:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))

    @property
    def scene_width(self) -> int:
        return int(self.options["blocks"]) * self.width

    def positions(self, frames: np.ndarray) -> np.ndarray:
        return frames // PATCH + 1

    def embedding(self, x: Inputs) -> torch.Tensor:
        (last,), chunks = self._outputs(x, 1)
        return self._pooled(last, chunks)

    def scene(self, x: Inputs) -> torch.Tensor:
        outputs, chunks = self._outputs(x, self.options["blocks"])
        pooled = [self._pooled(output, chunks) for output in outputs]
        if self.clip:  # the cls tokens of all blocks, then the means
            pooled = [half for part in zip(*(one.chunk(2, dim=1) for one in pooled), strict=True) for half in part]
        return torch.cat(pooled, dim=1)

    @torch.no_grad()
    def timestamps(self, x: Inputs) -> Frames:
        outputs, chunks = self._outputs(x, self.options["blocks"])
        special = int(self.clip)
        values = torch.cat([output[:, special:].float() for output in outputs], dim=-1)
        values = values.unflatten(0, chunks.valid.shape).flatten(1, 2)
        times = torch.arange(values.shape[1], device=values.device) * MILLISECONDS
        lengths = chunks.valid.sum(1)
        longest = int(lengths.max())
        return Frames(values[:, :longest], lengths, times[:longest])

    def _outputs(self, x: Inputs, blocks: int) -> tuple[list[torch.Tensor], Chunks]:
        """Normalised tokens `[n * chunks, tokens, channels]` after each of the last `blocks` blocks."""
        chunks = self._chunks(x)
        h, mask = self._tokens(chunks), self._mask(chunks)
        outputs = []
        first = int(self.target.split(".")[1])
        for number, block in enumerate(self.blocks):
            h = block.forward_(h, mask) if number < first else block(h, mask)
            if number >= DEPTH - blocks:
                outputs.append(self.norm(h))
        return outputs, chunks

    def _chunks(self, x: Inputs) -> Chunks:
        n, frames, bands = x.values.shape
        count = max(1, -(-frames // self.chunk))
        starts = self.chunk * torch.arange(count)
        left = (x.lengths.unsqueeze(1) - starts).clamp(min=0)
        valid = left.clamp(max=self.chunk) // PATCH
        padded = torch.nn.functional.pad(x.values, (0, 0, 0, count * self.chunk - frames))
        tokens = max(1, min(self.chunk, frames) // PATCH)
        return Chunks(padded.view(n, count, self.chunk, bands)[:, :, : tokens * PATCH], valid, left)

    def _tokens(self, chunks: Chunks) -> torch.Tensor:
        """Tokens with their positions, float32 `[n * chunks, tokens, channels]`, the cls token in front."""
        rows = chunks.frames.flatten(0, 1).unflatten(1, (-1, PATCH))
        linear = self.patch_embed["patch_embed"]
        tokens = linear(rows.transpose(2, 3).flatten(2).to(linear.weight.dtype)).float()  # bands first, then time
        if self.clip:
            tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        first = int(not self.clip)  # slot 0 is the cls token's
        return tokens + self.pos_embed[:, first : first + tokens.shape[1]]

    def _mask(self, chunks: Chunks) -> torch.Tensor | None:
        """What is added to attention scores, `[n * chunks, 1, 1, tokens]`; None where every chunk is full."""
        tokens, valid = chunks.frames.shape[2] // PATCH, chunks.valid.flatten()
        if bool((valid == tokens).all()):
            return None
        hidden = torch.arange(tokens) >= valid.unsqueeze(1)
        if self.clip:
            hidden = torch.nn.functional.pad(hidden, (1, 0))
        return (hidden * HIDDEN).view(len(valid), 1, 1, -1).to(chunks.frames.device)

    def _pooled(self, tokens: torch.Tensor, chunks: Chunks) -> torch.Tensor:
        """The embedding `[n, width]` of normalised tokens."""
        share = self._share(chunks)
        rows = tokens.unflatten(0, chunks.valid.shape)
        patches = rows[:, :, int(self.clip) :]
        within = torch.arange(patches.shape[2]) < chunks.valid.unsqueeze(2)
        weights = within * (share / (self._divisor(chunks) + LEAST)).unsqueeze(2)
        mean = torch.einsum("nctd,nct->nd", patches, weights.to(tokens.device))
        if not self.clip:
            return mean
        return torch.cat([torch.einsum("ncd,nc->nd", rows[:, :, 0], share.to(tokens.device)), mean], dim=1)

    def _share(self, chunks: Chunks) -> torch.Tensor:
        """What each chunk weighs, float32 `[n, chunks]`."""
        counts = chunks.left > (self.chunk // 2 if cropped(self.options) else 0)
        if self.options["chunk_frames"] is not None:
            counts &= chunks.valid > 0
        counts[:, 0] = True
        return counts / counts.sum(1, keepdim=True)

    def _divisor(self, chunks: Chunks) -> torch.Tensor:
        """What a chunk's sum of tokens is divided by, int64 `[n, chunks]`."""
        return chunks.left // PATCH if self.clip and self.options["mean"] == "published" else chunks.valid

    def layers(self) -> list[list[nn.Parameter]]:
        tokens = [self.cls_token] if self.clip else []
        inputs = [*tokens, self.mask_embed, self.pos_embed, *self.patch_embed.parameters()]
        return [inputs, *(list(block.parameters()) for block in self.blocks), list(self.norm.parameters())]

    def set_precision(self, dtype: torch.dtype) -> "ATST":
        first = int(self.target.split(".")[1])
        self.patch_embed.to(dtype)
        for block in self.blocks[:first]:
            block.freeze(dtype)
        return self


def read(checkpoint: Checkpoint, options: Mapping[str, Any]) -> ATST:
    """The frozen teacher of a checkpoint: Lightning's or the older layout, a fine-tuned file, or bare weights.

    A file with nothing but a student gives the student. What the file says of its training and the published rules do
    not follow is a warning.

    Raises:
        CheckpointError: another network, keys missing or unknown, or other shapes.
        ConfigError: it is of the other kind than the options say.
    """
    state = {key: value for key, value in strip(checkpoint.state, *PREFIXES).items() if not key.startswith("head.")}
    patch = state.get("patch_embed.patch_embed.weight")
    if patch is None or patch.ndim != 2 or patch.shape[0] % HEAD_WIDTH or not patch.shape[0]:
        if guess(checkpoint.state) == "atst":
            places = f"{', '.join(PREFIXES)} or nothing"
            raise CheckpointError(f"{checkpoint.path} has no ATST where expected: names that begin with {places}")
        raise CheckpointError(f"{checkpoint.path} is no ATST; {advice(checkpoint.state)}")
    kind = "clip" if "cls_token" in state else "frame"
    if kind != options.get("kind", "frame"):
        raise ConfigError(f"{checkpoint.path} is ATST-{kind.title()}; write `kind: {kind}`")
    state = {key.replace("norm_frame.", "norm."): value.float() for key, value in state.items()}
    with torch.device("meta"):
        model = ATST(patch.shape[0], options)
    expected = {key: value.shape for key, value in model.state_dict().items()}
    for problem, keys in (("lacks", expected.keys() - state), ("has what ATST has not:", state.keys() - expected)):
        if keys:
            raise CheckpointError(f"the checkpoint {problem} {', '.join(sorted(keys)[:3])}")
    if wrong := [key for key, shape in expected.items() if state[key].shape != shape]:
        found, shape = tuple(state[wrong[0]].shape), tuple(expected[wrong[0]])
        raise CheckpointError(f"{wrong[0]} has shape {found}, expected {shape}")
    model.load_state_dict(state, assign=True)
    for difference in differences(checkpoint.metadata, model):
        log.warning("%s: %s", checkpoint.path, difference)
    return model.requires_grad_(False).eval()


def differences(metadata: Mapping[str, Any], model: ATST) -> list[str]:
    """What a file's ``hyper_parameters`` or ``args`` (the older layout) say that the published rules do not follow."""
    hyper, older = (part if isinstance(part := metadata.get(key), dict) else {} for key in ("hyper_parameters", "args"))
    said = older | hyper
    found = [
        f"trained with {key} {said[key]!r}; the published embeddings are computed as for {usual!r}, and so are these"
        for key, usual in USUAL.items()
        if said.get(key, usual) != usual
    ]
    seconds = hyper.get("train_len" if model.clip else "anchor_len", older.get("anchor_len"))
    seconds = seconds[0] if isinstance(seconds, list | tuple) and seconds else seconds
    if isinstance(seconds, int | float) and cropped(model.options) and model.options["chunk_frames"] is None:
        frames = round(100 * seconds) + 1
        if frames != model.chunk:
            found.append(f"trained on {seconds} s, chunks have {model.chunk} frames; write `chunk_frames: {frames}`")
    return found


def random_state(kind: str, seed: int) -> dict[str, torch.Tensor]:
    """Seeded weights with the bare published names, for demonstrations and tests: ``"small-frame"``, …"""
    size, _, what = kind.partition("-")
    model = ATST(WIDTHS[size], {"kind": what})
    random = generator(seed, "random backbone", "atst", kind)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            nn.init.trunc_normal_(parameter, std=0.02, generator=random)
        elif "norm" in name and name.endswith("weight"):
            nn.init.ones_(parameter)
        else:
            nn.init.zeros_(parameter)
    final = "norm." if model.clip else "norm_frame."
    state = model.state_dict()
    return {final + key.removeprefix("norm.") if key.startswith("norm.") else key: state[key] for key in state}
