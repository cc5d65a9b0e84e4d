"""SSAST: self-supervised audio spectrogram transformer (Gong et al., AAAI 2022, arXiv:2110.09784).

A DeiT-style ViT on log-mel patches with a cls and a distillation token. Patch models cut the spectrogram
into 16 x 16 patches, frame models into 128 x 2. At pretraining the stride equals the patch; downstream it
is smaller, with the same patch weights and an adapted position embedding (the published `ASTModel`).
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ...errors import CheckpointError, ConfigError
from ...frontends.base import Statistics
from ...frontends.kaldi import Fbank
from ...randomness import generator
from ..base import Backbone, Inputs
from ..blocks import ALL, HEAD_WIDTH, Block
from ..checkpoints import Checkpoint
from .definition import MEL, PATCHES, STRIDES, WIDTHS, Grid, check_target, patch_grid, stored, target_path
from .names import published

SPECIAL = 2  # cls and distillation token
SIZES = ("p_input_fdim", "p_input_tdim")  # of the input at pretraining
NEEDED = {"v.cls_token": 3, "v.patch_embed.proj.weight": 4, "v.pos_embed": 3, **dict.fromkeys(SIZES, 0)}  # axes
UNUSED = ("v.head.", "v.head_dist.", "cpredlayer.", "gpredlayer.", "mask_embed", "mlp_head.")


def adapt_positions(positions: torch.Tensor, old: Grid, new: Grid) -> torch.Tensor:
    """Position embedding of another patch grid, as the published `ASTModel` does it.

    Shorter axes are cut centrally (from ``old // 2 - new // 2``), longer ones resized bilinearly; time
    first, then mel. The two special tokens keep theirs.

    Args:
        positions: float32 `[1, 2 + old.mel * old.time, width]`.

    Returns:
        float32 `[1, 2 + new.mel * new.time, width]`, row-major over mel then time.
    """
    special, patches = positions[:, :SPECIAL], positions[:, SPECIAL:]
    width = positions.shape[-1]
    grid = patches.transpose(1, 2).reshape(1, width, old.mel, old.time)
    if new.time <= old.time:
        start = old.time // 2 - new.time // 2
        grid = grid[..., start : start + new.time]
    else:
        grid = F.interpolate(grid, size=(old.mel, new.time), mode="bilinear")
    if new.mel <= old.mel:
        start = old.mel // 2 - new.mel // 2
        grid = grid[..., start : start + new.mel, :]
    else:
        grid = F.interpolate(grid, size=(new.mel, new.time), mode="bilinear")
    return torch.cat([special, grid.reshape(1, width, -1).transpose(1, 2)], dim=1)


class PatchEmbed(nn.Module):
    """Spectrogram `[n, frames, mel]` to patch tokens `[n, mel patches * time patches, width]`.

    In bf16 the convolution is one product of unfolded patches, several times faster on CPUs. In fp32 it stays a
    convolution: the product would round in another order.
    """

    def __init__(self, width: int, patch: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, kernel_size=patch, stride=stride)

    def forward(self, fbank: torch.Tensor) -> torch.Tensor:
        image = fbank.to(self.proj.weight.dtype).transpose(1, 2).unsqueeze(1)
        if self.proj.weight.dtype != torch.bfloat16:
            return self.proj(image).flatten(2).transpose(1, 2)
        (height, width), (down, along) = self.proj.kernel_size, self.proj.stride
        patches = image.unfold(2, height, down).unfold(3, width, along)[:, 0]
        return F.linear(patches.flatten(3).flatten(1, 2), self.proj.weight.flatten(1), self.proj.bias)


class SSAST(Backbone):
    """The network, with its target layer in one of its blocks.

    Args:
        width: 192, 384 or 768; heads are 64 wide.
        frames: input length, 10 ms each.
        patch: patch height (mel) and width (frames).
        stride: patch stride; None is the published one of the patch shape.
        depth: transformer blocks.
        layer: block whose output is pooled; later blocks are dropped.
        pooling: "cls" (mean of the two special tokens) or "avg" (mean of the patch tokens).
        gradient_tokens: "first" (token 0, as published) or "all".
        target: a layer of the pooled block (``"attn.proj"``), or of any block (``"blocks.3.mlp.fc1"``).
        statistics: that the log-mel is normalised with; None takes the dataset's.
        eps: of the layer norms.

    Raises:
        ConfigError: a value contradicts another.
    """

    def __init__(
        self,
        width: int,
        frames: int,
        patch: tuple[int, int] = (16, 16),
        stride: tuple[int, int] | None = None,
        depth: int = 12,
        layer: int = -1,
        pooling: str = "cls",
        gradient_tokens: str = "first",
        target: str = "attn.proj",
        statistics: Statistics | None = None,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        check_target(layer, depth, pooling, gradient_tokens)
        self.frontend = Fbank(frames, statistics)
        self.width, self.frames, self.patch, self.pooling = width, frames, patch, pooling
        self.stride = stride or STRIDES.get(patch, patch)
        self.grid = patch_grid(frames, patch, self.stride)
        self.target = target_path(target, layer, depth)
        self.gradient_tokens = slice(0, 1) if gradient_tokens == "first" else slice(None)
        self.patch_embed = PatchEmbed(width, patch, self.stride)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, SPECIAL + math.prod(self.grid), width))
        self.blocks: Any = nn.ModuleList(Block(width, eps) for _ in range(layer % depth + 1))
        self.norm = nn.LayerNorm(width, eps=eps)
        if stored(pooling, target):
            self.shapes = dict.fromkeys(("inputs", "context"), (SPECIAL, width))

    @property
    def first_open(self) -> int:
        """The block of the target layer; those in front of it run without autograd."""
        return int(self.target.split(".")[1])

    @property
    def pooled(self) -> slice:
        """The tokens that are pooled."""
        return slice(0, SPECIAL) if self.pooling == "cls" else slice(SPECIAL, None)

    def tokens(self, patches: torch.Tensor) -> torch.Tensor:
        """Patch tokens `[n, patches, width]` with the special tokens in front and positions added, float32."""
        n = len(patches)
        special = [self.cls_token.expand(n, -1, -1), self.dist_token.expand(n, -1, -1)]
        return torch.cat([*special, patches.float()], dim=1) + self.pos_embed

    def hidden(self, patches: torch.Tensor) -> torch.Tensor:
        """All tokens `[n, 2 + patches, width]` after the last block and the final norm; differentiable (training)."""
        x = self.tokens(patches)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def pool(self, hidden: torch.Tensor) -> torch.Tensor:
        """Pooled embedding `[n, width]` of all tokens `[n, 2 + patches, width]`."""
        return hidden[:, self.pooled].mean(1)

    def frozen(self, tokens: torch.Tensor, end: int) -> torch.Tensor:
        """Tokens after the first `end` blocks, computed in place and without autograd."""
        with torch.no_grad():
            for block in self.blocks[:end]:
                tokens = block.forward_(tokens)
        return tokens

    def embedding(self, x: Inputs) -> torch.Tensor:
        h = self.frozen(self.tokens(self.patch_embed(x.values)), self.first_open)
        for block in self.blocks[self.first_open : -1]:
            h = block(h)
        last = self.blocks[-1]
        # The last block's attention is asked for the pooled tokens only, unless its qkv must be called for the hook.
        kept = ALL if self.target.endswith(f"{len(self.blocks) - 1}.attn.qkv") else self.pooled
        output = last.attn.proj(last.attn.attend(last.norm1(h), kept).float())
        h = h[:, kept] + output
        h = self.norm(h + last.mlp(last.norm2(h)))
        return (h[:, self.pooled] if kept == ALL else h).mean(1)

    @torch.inference_mode()
    def trunk(self, x: Inputs) -> dict[str, torch.Tensor]:
        h = self.frozen(self.tokens(self.patch_embed(x.values)), len(self.blocks) - 1)
        last = self.blocks[-1]
        return {"inputs": last.attn.attend(last.norm1(h), self.pooled).float(), "context": h[:, self.pooled].clone()}

    def tail(self, stored: Mapping[str, torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        last = self.blocks[-1]
        x = stored["context"] + output
        return self.norm(x + last.mlp(last.norm2(x))).mean(1)

    def layers(self) -> list[list[nn.Parameter]]:
        inputs = [self.cls_token, self.dist_token, self.pos_embed, *self.patch_embed.parameters()]
        return [inputs, *(list(block.parameters()) for block in self.blocks), list(self.norm.parameters())]

    def set_precision(self, dtype: torch.dtype) -> "SSAST":
        self.patch_embed.to(dtype)
        for block in self.blocks[: self.first_open]:
            block.freeze(dtype)
        if self.target.endswith("attn.proj"):
            self.blocks[self.first_open].attn.qkv.to(dtype)
        return self


def read(checkpoint: Checkpoint, options: Mapping[str, Any]) -> SSAST:
    """The frozen backbone of a checkpoint.

    Args:
        options: `frames`, and any of `statistics`, `pooling`, `layer`, `stride`, `gradient_tokens`, `target`.
    """
    known = published(checkpoint)
    where = {"grid_stride": tuple(known.metadata["grid_stride"]), "eps": known.metadata["layer_norm_eps"]}
    return build(known.state, **where, **options)


def build(
    state: dict[str, torch.Tensor], frames: int, grid_stride: tuple[int, int] | None = None, **options: Any
) -> SSAST:
    """The network for a state dict in the published names (`names.published`), in evaluation mode.

    Args:
        frames: input length.
        grid_stride: of the patches that its positions are for; None for the patch, as at pretraining.
        options: others of `SSAST`.

    Raises:
        CheckpointError: keys missing or unknown, or shapes that fit no SSAST.
    """
    shape = describe(state, grid_stride)
    weights = {
        key[2:]: value.to(torch.float32, copy=True)
        for key, value in state.items()
        if key.startswith("v.") and not key.startswith(UNUSED)
    }
    with torch.device("meta"):
        model = SSAST(shape.width, frames, shape.patch, depth=shape.depth, **options)
    weights["pos_embed"] = adapt_positions(weights["pos_embed"], shape.grid, model.grid)
    dropped = tuple(f"blocks.{i}." for i in range(len(model.blocks), shape.depth))
    kept = {key: value for key, value in weights.items() if not key.startswith(dropped)}
    model.load_state_dict(kept, assign=True)
    return model.requires_grad_(False).eval()


class Shape(NamedTuple):
    """What a state dict says of its network."""

    width: int
    depth: int
    patch: tuple[int, int]
    grid: Grid


def describe(state: dict[str, torch.Tensor], grid_stride: tuple[int, int] | None = None) -> Shape:
    """Width, depth, patch and pretraining grid of a state dict, after checking its keys and shapes.

    Raises:
        CheckpointError: naming the first keys that are missing, unknown or of the wrong shape.
    """
    missing = [key for key in NEEDED if key not in state]
    if missing:
        raise CheckpointError(f"not an SSAST checkpoint: it lacks {', '.join(missing)}")
    for key, axes in NEEDED.items():
        if state[key].ndim != axes:
            raise CheckpointError(f"{key} has shape {tuple(state[key].shape)}, expected {axes} axes")
    width = state["v.cls_token"].shape[-1]
    height, length = state["v.patch_embed.proj.weight"].shape[-2:]
    depth = len({key.split(".")[2] for key in state if key.startswith("v.blocks.")})
    mel, frames = int(state["p_input_fdim"]), int(state["p_input_tdim"])
    if (
        width % HEAD_WIDTH
        or not width * depth * height * length
        or mel != MEL
        or height > mel
        or (not length <= frames <= 1 << 20)
    ):
        raise CheckpointError(
            f"width {width}, {depth} blocks, {mel} mel bins, patch {height} x {length}: no SSAST has that shape"
        )
    stride = grid_stride or (height, length)
    with torch.device("meta"):
        model = SSAST(width, frames, (height, length), stride=stride, depth=depth)
    expected = {f"v.{key}": value.shape for key, value in model.state_dict().items()}
    found = {key: value for key, value in state.items() if key not in SIZES and not key.startswith(UNUSED)}
    _compare(expected, found)
    return Shape(width, depth, (height, length), model.grid)


def _compare(expected: dict[str, torch.Size], found: dict[str, torch.Tensor]) -> None:
    def first(keys: set[str]) -> str:
        return ", ".join(sorted(keys)[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")

    if missing := expected.keys() - found.keys():
        raise CheckpointError(f"the checkpoint lacks {first(set(missing))}")
    if unknown := found.keys() - expected.keys():
        raise CheckpointError(f"the checkpoint has keys that SSAST does not: {first(set(unknown))}")
    for key, shape in expected.items():
        if found[key].shape != shape:
            raise CheckpointError(f"{key} has shape {tuple(found[key].shape)}, expected {tuple(shape)}")
        if not found[key].is_floating_point():
            raise CheckpointError(f"{key} holds {found[key].dtype}, expected floating-point numbers")


def random_state(kind: str, seed: int) -> dict[str, torch.Tensor]:
    """Seeded weights in the published layout, for demonstrations and tests.

    Args:
        kind: ``"tiny-patch"``, ``"base-frame"``, …

    Raises:
        ConfigError: no such size or kind.
    """
    size, _, shape = kind.partition("-")
    if size not in WIDTHS or shape not in PATCHES:
        raise ConfigError(
            f"random:{kind} is not a model; choose a size of {', '.join(WIDTHS)} and a kind of {', '.join(PATCHES)}"
        )
    frames, patch = 1024, PATCHES[shape]
    model = SSAST(WIDTHS[size], frames, patch, stride=patch)
    initialise(model, generator(seed, "random backbone", kind))
    state = {f"v.{key}": value for key, value in model.state_dict().items()}
    return state | {"p_input_fdim": torch.tensor(MEL), "p_input_tdim": torch.tensor(frames)}


def initialise(model: SSAST, random: torch.Generator) -> None:
    """DeiT's initialisation: truncated normal (0.02) for matrices, tokens and positions, zero biases."""
    for name, parameter in model.named_parameters():
        if "norm" in name and name.endswith("weight"):
            nn.init.ones_(parameter)
        elif parameter.ndim > 1:
            nn.init.trunc_normal_(parameter, std=0.02, generator=random)
        else:
            nn.init.zeros_(parameter)
