"""SSAST: self-supervised audio spectrogram transformer (Gong et al., AAAI 2022, arXiv:2110.09784).

A DeiT-style ViT on log-mel patches with a cls and a distillation token. Patch models cut the spectrogram
into 16 x 16 patches, frame models into 128 x 2. At pretraining the stride equals the patch; downstream it
is smaller, with the same patch weights and an adapted position embedding (the published `ASTModel`).
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import CheckpointError, ConfigError
from ..patches import MEL, PATCHES, STRIDES, Grid, patch_grid
from ..randomness import generator
from ..target import check_target
from .base import Activations, Backbone
from .transformer import HEAD_WIDTH, Block

SPECIAL = 2  # cls and distillation token
WIDTHS = {"tiny": 192, "small": 384, "base": 768}
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
    """The network, with its target layer at ``blocks[layer].attn.proj``.

    Args:
        width: 192, 384 or 768; heads are 64 wide.
        depth: transformer blocks.
        patch: patch height (mel) and width (frames).
        stride: patch stride; None is the published one of the patch shape.
        frames: input length, 10 ms each.
        layer: block whose output is pooled and whose projection is the target; later blocks are dropped.
        pooling: "cls" (mean of the two special tokens) or "avg" (mean of the patch tokens).
        gradient_tokens: "first" (token 0, as published) or "all".

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
    ) -> None:
        super().__init__()
        check_target(layer, depth, pooling, gradient_tokens)
        self.width, self.frames, self.patch, self.pooling = width, frames, patch, pooling
        self.stride = stride or STRIDES.get(patch, patch)
        self.grid = patch_grid(frames, patch, self.stride)
        self.positions = SPECIAL if pooling == "cls" else math.prod(self.grid)
        self.gradient_positions = 1 if gradient_tokens == "first" else self.positions
        self.patch_embed = PatchEmbed(width, patch, self.stride)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, SPECIAL + math.prod(self.grid), width))
        self.blocks: Any = nn.ModuleList(Block(width) for _ in range(layer % depth + 1))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    @property
    def target(self) -> nn.Linear:
        return self.blocks[-1].attn.proj

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
        return hidden[:, :SPECIAL].mean(1) if self.pooling == "cls" else hidden[:, SPECIAL:].mean(1)

    @torch.inference_mode()
    def activations(self, fbank: torch.Tensor) -> Activations:
        x = self.tokens(self.patch_embed(fbank))
        for block in self.blocks[:-1]:
            x = block.forward_(x)
        read = slice(0, SPECIAL) if self.pooling == "cls" else slice(SPECIAL, None)
        last = self.blocks[-1]
        return Activations(last.attn.attend(last.norm1(x), read).float(), x[:, read].clone())

    def embedding(self, output: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        x = context + output
        last = self.blocks[-1]
        x = x + last.mlp(last.norm2(x))
        return self.norm(x).mean(1)

    def set_precision(self, dtype: torch.dtype) -> "SSAST":
        self.patch_embed.to(dtype)
        for block in self.blocks[:-1]:
            block.freeze(dtype)
        self.blocks[-1].attn.qkv.to(dtype)
        return self


def build(state: dict[str, torch.Tensor], frames: int, **options: object) -> SSAST:
    """The network for a published state dict (`checkpoints.load`), in evaluation mode.

    Args:
        state: keys as published, without the ``module.`` prefix.
        frames: input length.
        options: `stride`, `layer`, `pooling`, `gradient_tokens` of `SSAST`.

    Raises:
        CheckpointError: keys missing or unknown, or shapes that fit no SSAST.
    """
    shape = describe(state)
    weights = {
        key[2:]: value.to(torch.float32, copy=True)
        for key, value in state.items()
        if key.startswith("v.") and not key.startswith(UNUSED)
    }
    with torch.device("meta"):
        model = SSAST(shape.width, frames, shape.patch, depth=shape.depth, **options)  # type: ignore[arg-type]
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


def describe(state: dict[str, torch.Tensor]) -> Shape:
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
    grid = patch_grid(frames, (height, length), (height, length))
    with torch.device("meta"):
        model = SSAST(width, frames, (height, length), stride=(height, length), depth=depth)
    expected = {f"v.{key}": value.shape for key, value in model.state_dict().items()}
    found = {key: value for key, value in state.items() if key not in SIZES and not key.startswith(UNUSED)}
    _compare(expected, found)
    return Shape(width, depth, (height, length), grid)


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
