"""The patches that a spectrogram is cut into. Imports no torch: the configuration is checked with it."""

from typing import NamedTuple

from .errors import ConfigError

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
