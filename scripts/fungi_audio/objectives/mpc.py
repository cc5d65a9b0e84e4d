"""Masked patch classification: the backbone's own discriminative pretext loss (SSAST, equation 1)."""

from ..models.ssast.definition import MASKS
from .pretext import Masked


def build(masks: int = MASKS, masked: float = 0.78) -> Masked:
    return Masked("mpc", masks, masked)
