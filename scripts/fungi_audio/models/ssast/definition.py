"""What the configuration and the DAG know of SSAST: patches, target layer, public checkpoints. Imports no torch."""

from typing import NamedTuple

from ...errors import ConfigError

MEL = 128
PATCHES = {"patch": (16, 16), "frame": (128, 2)}  # mel bins, frames
STRIDES = {(16, 16): (10, 10), (128, 2): (128, 1)}


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


def check_layer(layer: int, depth: int) -> None:
    """Raises ConfigError when a transformer of `depth` blocks has no such one."""
    if not -depth <= layer < depth:
        raise ConfigError(f"layer {layer} does not exist; the model has {depth} blocks (0 to {depth - 1})")


def check_target(layer: int, depth: int, pooling: str, gradient_tokens: str) -> None:
    """Raises ConfigError when there is no such layer, or its gradient would be zero."""
    check_layer(layer, depth)
    if pooling == "avg" and gradient_tokens == "first":
        raise ConfigError("pooling: avg does not read token 0, so its gradient is zero; set gradient_tokens: all")


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
PRESETS = {name: f"https://www.dropbox.com/s/{path}?dl=1" for name, path in _DROPBOX.items()}
