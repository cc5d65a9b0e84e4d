"""What the configuration and the DAG know of SSAST: options, patches, target layer, public checkpoints. No torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...errors import ConfigError
from ..definitions import Place, Preset, Reading, Shape

MEL = 128
DEPTH = 12
WIDTHS = {"tiny": 192, "small": 384, "base": 768}
PATCHES = {"patch": (16, 16), "frame": (128, 2)}  # mel bins, frames
STRIDES = {(16, 16): (10, 10), (128, 2): (128, 1)}
SHAPING = ("target",)
FRAMES = False  # embeddings over time
RANDOM = [f"{size}-{kind}" for size in WIDTHS for kind in PATCHES]  # checkpoint: random:…
MASKS = 8  # of a clip, unless the objective says otherwise
LAYERS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")  # of a block
OPTIONS: dict[str, dict[str, Any]] = {
    "pooling": {
        "description": "cls is the mean of the two special tokens, avg the mean of the patch tokens.",
        "enum": ["cls", "avg"],
        "default": "cls",
    },
    "layer": {
        "description": "Block whose output is pooled and whose target layer gives the gradient; -1 is the last.",
        "type": "integer",
        "default": -1,
    },
    "target": {
        "description": "Layer whose gradient is the feature: attn.qkv, attn.proj, mlp.fc1 or mlp.fc2 of the pooled "
        "block, or with an earlier block, such as blocks.3.mlp.fc1.",
        "type": "string",
        "default": "attn.proj",
    },
    "stride": {
        "description": "Patch stride [mel, time]; null is the published one (10, 10 for patch models, 128, 1 for "
        "frame models).",
        "type": ["array", "null"],
        "items": {"type": "integer", "minimum": 1},
        "minItems": 2,
        "maxItems": 2,
        "default": None,
    },
    "gradient_tokens": {
        "description": "Tokens whose gradient counts; first is the published choice (token 0 only).",
        "enum": ["first", "all"],
        "default": "first",
    },
}


class Grid(NamedTuple):
    """Patches along the mel axis and along time."""

    mel: int
    time: int


def patch_grid(frames: int, patch: tuple[int, int], stride: tuple[int, int]) -> Grid:
    """The grid of whole patches on `MEL` bins and `frames` frames.

    Raises:
        ConfigError: the clip is shorter than one patch.
    """
    if frames < patch[1] or patch[0] > MEL:
        raise ConfigError(
            f"{frames} frames of {MEL} mel bins are less than one {patch[0]} x {patch[1]} patch; raise target_length"
        )
    return Grid((MEL - patch[0]) // stride[0] + 1, (frames - patch[1]) // stride[1] + 1)


def maskable(grid: Grid) -> int:
    """How many patches of a grid can be masked; clusters never reach position 0."""
    return math.prod(grid) - (grid.mel > 1)


def check_masked(grid: Grid, count: int) -> None:
    """Raises ConfigError when more patches are to be masked than can be."""
    if count > maskable(grid):
        raise ConfigError(
            f"masked: {count} patches is more than the {maskable(grid)} that can be masked on a grid of "
            f"{grid.mel} x {grid.time} patches; lower masked or raise target_length"
        )


def check_layer(layer: int, depth: int) -> None:
    """Raises ConfigError when a transformer of `depth` blocks has no such one."""
    if not -depth <= layer < depth:
        raise ConfigError(f"layer {layer} does not exist; the model has {depth} blocks (0 to {depth - 1})")


def check_target(layer: int, depth: int, pooling: str, gradient_tokens: str, target: str = "attn.proj") -> None:
    """Raises ConfigError when there is no such layer, or its gradient would be zero."""
    check_layer(layer, depth)
    if pooling == "avg" and gradient_tokens == "first":
        raise ConfigError("pooling: avg does not read token 0, so its gradient is zero; set gradient_tokens: all")
    block, name = _parts(target, layer, depth)
    if name not in LAYERS:
        raise ConfigError(f"target: {target!r} is no layer of a block; allowed: {', '.join(LAYERS)}, or blocks.N.LAYER")
    if not 0 <= block <= layer % depth:
        raise ConfigError(f"target: {target} lies behind the pooled block {layer % depth}, so its gradient is zero")


def _parts(target: str, layer: int, depth: int) -> tuple[int, str]:
    """The block of a target layer, and its name in the block."""
    head, number, name = ([*target.split(".", 2), "", ""])[:3]
    if head == "blocks" and number.isdecimal():
        return int(number), name
    return layer % depth, target


def target_path(target: str, layer: int, depth: int) -> str:
    """The path in the network of a target layer that is named by itself or with its block."""
    return "blocks.{}.{}".format(*_parts(target, layer, depth))


def stored(pooling: str, target: str) -> bool:
    """Whether what the losses read of the trunk is two tokens, which are encoded once and kept."""
    return pooling == "cls" and target == "attn.proj"


def check(options: Mapping[str, Any]) -> None:
    """Raises ConfigError when options contradict each other."""
    check_target(options["layer"], DEPTH, options["pooling"], options["gradient_tokens"], options["target"])


def reading(options: Mapping[str, Any], dataset: Mapping[str, Any]) -> Reading:
    """Log-mels of one length.

    Raises:
        ConfigError: the dataset's definition does not say which.
    """
    frames = dataset.get("target_length")
    if frames is None:
        raise ConfigError("has no target_length, the frames of 10 ms that every clip is cut or padded to for SSAST")
    return Reading(f"fbank-{frames}", 16_000, frames / 100, 100 * MEL, measured=True)


@dataclass(frozen=True)
class Patches(Shape):
    """An SSAST: its tokens are whole patches of a spectrogram."""

    patch: tuple[int, int] = PATCHES["patch"]
    stride: tuple[int, int] = STRIDES[PATCHES["patch"]]

    def tokens(self, seconds: float) -> float:
        return self.special + math.prod(patch_grid(max(round(100 * seconds), self.patch[1]), self.patch, self.stride))


def trunk(width: int, patch: tuple[int, int], stride: tuple[int, int], stored: int = 0) -> Patches:
    """The shape of an SSAST."""
    rate = 100 * ((MEL - patch[0]) // stride[0] + 1) / stride[1]
    return Patches(width, DEPTH, rate, special=2, stored=stored, patch=patch, stride=stride)


def shape(options: Mapping[str, Any], checkpoint: str) -> Patches:
    """As far as a definition tells: the size and patch kind are read from the checkpoint's name; one that names
    neither counts as the most expensive, a base patch model."""
    name = checkpoint.lower()
    width = next((width for size, width in WIDTHS.items() if size in name), WIDTHS["base"])
    patch = PATCHES["frame" if "frame" in name else "patch"]
    mel, time = options.get("stride") or STRIDES[patch]
    kept = stored(options.get("pooling", "cls"), options.get("target", "attn.proj"))
    return trunk(width, patch, (mel, time), 4 * width if kept else 0)


def dataset_options(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """What of a dataset's definition the network is built with."""
    return {"frames": dataset["target_length"]}


_DROPBOX = {
    "ssast-base-patch-400": "ewrzpco95n9jdz6/SSAST-Base-Patch-400.pth",
    "ssast-base-frame-400": "nx6nl4d4bl71sm8/SSAST-Base-Frame-400.pth",
    "ssast-base-patch-250": "mxrm9qog6aj8hif/SSAST-Base-Patch-250.pth",
    "ssast-base-frame-250": "4e6l7ulhwrfoana/SSAST-Base-Frame-250.pth",
    "ssast-small-patch-400": "i24w446rl9pkf05/SSAST-Small-Patch-400.pth",
    "ssast-tiny-patch-400": "fkbtf78y94113wz/SSAST-Tiny-Patch-400.pth",
    "ssast-tiny-frame-400": "rx7g60ruzawffzv/SSAST-Tiny-Frame-400.pth",
    "ssast-ablation-100-masked": "0oyrtfbjzkwho2p/audio_model_100m.pth",
    "ssast-ablation-discriminative": "znuzgwf2zvrpjkr/audio_model_dis.pth",
    "ssast-ablation-generative": "u6ws5fjrid10x4p/audio_model_gen.pth",
    "ssast-ablation-audioset-20k": "y6x2ck2ca3tb7d9/audio_model_as20k.pth",
    "ssast-ablation-audioset-2m": "m9p782df3faql1q/audio_model_as.pth",
    "ssast-ablation-librispeech": "f4bn2qelu3m8ksu/audio_model_librispeech.pth",
}


MIRRORS = {  # of the patch models, in transformers' names; digests as a third party reports them
    "tiny": Place("hf://Simon-Kotchou/ssast-tiny-patch-audioset-16-16/model.safetensors"),
    "small": Place("hf://Simon-Kotchou/ssast-small-patch-audioset-16-16/model.safetensors"),
    "base": Place(
        "hf://Simon-Kotchou/ssast-base-patch-audioset-16-16@f67df8e895e787bad0aec434563e8f0a1f61c794/model.safetensors",
        "a31a7f70fea7648847882ecd278369f6f1b1cb0050364c4dff7d3c8cf8aabfe6",
    ),
}


def _preset(name: str, path: str) -> Preset:
    """The published link, and for the patch models a mirror without pretext heads."""
    mirrors = [MIRRORS[name.split("-")[1]]] if name.endswith("-patch-400") else []
    places = (Place(f"https://www.dropbox.com/s/{path}?dl=1"), *mirrors)
    return Preset("ssast", places, "SSAST; AudioSet and LibriSpeech; BSD-3-Clause")


PRESETS = {name: _preset(name, path) for name, path in _DROPBOX.items()}
