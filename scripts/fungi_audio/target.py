"""What a backbone's definition says of its target layer, the one whose gradient is the feature. Imports no torch."""

from .errors import ConfigError


def check_layer(layer: int, depth: int) -> None:
    """Raises ConfigError when a transformer of `depth` blocks has no such one."""
    if not -depth <= layer < depth:
        raise ConfigError(f"layer {layer} does not exist; the model has {depth} blocks (0 to {depth - 1})")


def check_target(layer: int, depth: int, pooling: str, gradient_tokens: str) -> None:
    """Raises ConfigError when there is no such layer, or its gradient would be zero."""
    check_layer(layer, depth)
    if pooling == "avg" and gradient_tokens == "first":
        raise ConfigError("pooling: avg does not read token 0, so its gradient is zero; set gradient_tokens: all")
