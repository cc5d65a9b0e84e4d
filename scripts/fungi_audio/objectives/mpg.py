"""Masked patch generation: the backbone's own generative pretext loss (SSAST, equation 2)."""

from ..models.ssast.pretext import Pretext
from .masked import MaskedPatches


def build(model: Pretext, masks: int = 8, masked: float = 0.78) -> MaskedPatches:
    return MaskedPatches(model, "mpg", masks, masked)
