"""The matrix products of SSAST's trunk alone: the ceiling that its speed is measured against."""

import torch
import torch.nn.functional as F

from fungi_audio.models.blocks import HEAD_WIDTH
from fungi_audio.models.ssast.network import SSAST


class Products:
    """The products of one batch, each at its own shape, on resident random data.

    Args:
        backbone: on its device, with its precision set.
        batch: inputs a batch.
    """

    def __init__(self, backbone: SSAST, batch: int) -> None:
        weight = backbone.patch_embed.proj.weight
        width, tokens, self.blocks = backbone.width, backbone.pos_embed.shape[1], len(backbone.blocks) - 1
        rows, patch = batch * tokens, weight[0].numel()
        shapes = [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width)]
        uses = [(*shape, self.blocks) for shape in shapes] + [(2 * width, width, 1), (width, patch, 1)]
        self._linear = [
            (weight.new_empty(rows, size).normal_(), weight.new_empty(out, size).normal_(), count)
            for out, size, count in uses
        ]
        self._query = weight.new_empty(batch, width // HEAD_WIDTH, tokens, HEAD_WIDTH).normal_()
        self._weights = weight.new_empty(width // HEAD_WIDTH, tokens, tokens).normal_()
        self.linear_flops = sum(2 * rows * out * size * count for out, size, count in uses)
        self.attention_flops = self.blocks * 4 * batch * tokens**2 * width

    @torch.inference_mode()
    def linear(self) -> None:
        """All linear maps of the trunk."""
        for inputs, weight, count in self._linear:
            for _ in range(count):
                F.linear(inputs, weight)

    @torch.inference_mode()
    def attention(self) -> None:
        """The two products of each attention, without the softmax between them, a clip at a time."""
        for _ in range(self.blocks):
            for query in self._query:
                torch.bmm(query, query.transpose(1, 2))
                torch.bmm(self._weights, query)
