"""Per-clip gradients of the target layer of any network, never formed a position at a time.

For ``y = W x + b`` a clip's gradient is ``G = sum_p delta_p [x_p; 1]^T`` over the positions (tokens, places of a
feature map) and views that the loss reads, with ``delta_p = dL/dy_p``. A hook on the layer makes its output a leaf,
so that autograd runs on what follows the layer and on nothing else.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import ConfigError, NotFinite
from ..models.base import Backbone


class Factors(NamedTuple):
    """The gradients of some clips as sums of rank-one terms.

    Attributes:
        delta: float32 `[n, positions, out]`, loss gradients at the layer's output.
        inputs: float32 `[n, positions, in]`, with a column of ones where the layer has a bias.
    """

    delta: torch.Tensor
    inputs: torch.Tensor

    def rows(self, first: int, last: int) -> torch.Tensor:
        """Rows of the gradients `[weight | bias]`, float32 `[n, last - first, in]`."""
        return self.delta[..., first:last].transpose(1, 2) @ self.inputs

    def matrix(self) -> torch.Tensor:
        """The gradients, float32 `[n, out, in]`."""
        return self.rows(0, self.delta.shape[-1])


def factors(layer: nn.Module, inputs: torch.Tensor, delta: torch.Tensor) -> Factors:
    """The terms of one call of a layer, a row for each row of its batch.

    Args:
        layer: `nn.Linear`, or a convolution without groups, whose inputs are its unfolded patches.
        inputs: what it was called with, `[rows, …]`.
        delta: the loss gradient at its output.
    """
    if isinstance(layer, nn.Linear):
        rows = len(inputs)
        inputs, delta = inputs.reshape(rows, -1, inputs.shape[-1]), delta.reshape(rows, -1, delta.shape[-1])
    else:
        inputs, delta = _unfold(layer, inputs).transpose(1, 2), delta.flatten(2).transpose(1, 2)
    inputs = inputs.float()
    if layer.bias is not None:
        inputs = torch.cat([inputs, inputs.new_ones(*inputs.shape[:-1], 1)], dim=-1)
    return Factors(delta.float(), inputs)


def _unfold(layer: Any, inputs: torch.Tensor) -> torch.Tensor:
    """The patches that a convolution multiplies with its weight, `[rows, in * kernel, positions]`."""
    if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise ConfigError("target: a convolution with groups or a padding of its own has no gradient of this form")
    options = {"dilation": layer.dilation, "padding": layer.padding, "stride": layer.stride}
    if isinstance(layer, nn.Conv1d):
        inputs = inputs.unsqueeze(2)
        before = {"dilation": 1, "padding": 0, "stride": 1}
        options = {name: (before[name], *value) for name, value in options.items()}
    kernel = layer.kernel_size if len(layer.kernel_size) == 2 else (1, *layer.kernel_size)
    return F.unfold(inputs, kernel, **options)


def gradient(backbone: Backbone, losses: Callable[[], torch.Tensor]) -> Factors:
    """Gradients of one loss a clip with respect to the target layer.

    Args:
        losses: runs the network and returns one loss a clip, `[n]`. The rows of the batches that the target layer
            sees belong to the clips in order, equally many each (views, chunks); it may be called several times.

    Raises:
        NotFinite: a loss or gradient is NaN or Inf.
        ConfigError: the network does not call the layer, or the loss does not depend on it.
    """
    layer = backbone.layer
    calls: list[tuple[torch.Tensor, torch.Tensor]] = []

    def cut(_: nn.Module, arguments: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        calls.append((arguments[0].detach(), output.detach().requires_grad_()))
        return calls[-1][1]

    # Suites of others call encoders in inference mode, whose tensors autograd refuses.
    with torch.inference_mode(False), torch.enable_grad():
        handle = layer.register_forward_hook(cut)
        try:
            values = losses()
        finally:
            handle.remove()
        if not calls or not values.requires_grad:
            raise ConfigError(f"target: the loss does not depend on {backbone.target}; name another layer")
        deltas = torch.autograd.grad(values.sum(), [output for _, output in calls], allow_unused=True)
    n = len(values)
    terms = [_of_clips(backbone, layer, inputs, delta, n) for (inputs, _), delta in zip(calls, deltas, strict=True)]
    made = terms[0] if len(terms) == 1 else Factors(*(torch.cat(part, dim=1) for part in zip(*terms, strict=True)))
    finite = torch.isfinite(values) & torch.isfinite(made.delta).flatten(1).all(dim=1)
    if not finite.all():
        raise NotFinite(torch.nonzero(~finite).flatten().tolist())
    return made


def _of_clips(
    backbone: Backbone, layer: nn.Module, inputs: torch.Tensor, delta: torch.Tensor | None, n: int
) -> Factors:
    """The terms of one call, the rows of a clip folded into its positions."""
    if delta is None or len(inputs) % n:
        rows = "without effect on the loss" if delta is None else f"with {len(inputs)} rows for {n} clips"
        raise ConfigError(f"target: {backbone.target} is called {rows}; name another layer")
    made = factors(layer, inputs, delta)
    kept = (part[:, backbone.gradient_tokens] for part in made)
    return Factors(*(part.reshape(n, -1, part.shape[-1]) for part in kept))
