"""Masked patch classification: the backbone's own discriminative pretext loss (SSAST, equation 1)."""

from ..models.ssast.pretext import Pretext
from .masked import MaskedPatches


def build(model: Pretext, masks: int = 8, masked: float = 0.78) -> MaskedPatches:
    return MaskedPatches(model, "mpc", masks, masked)
