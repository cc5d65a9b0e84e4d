"""timm's pre-norm transformer block, with attention for a few queries and a path without autograd.

Every product runs in the dtype of its weights, beside a float32 residual stream.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Attention as TimmAttention
from timm.models.vision_transformer import Block as TimmBlock
from torch import nn

HEAD_WIDTH = 64
ALL = slice(None)
CACHED = 1 << 18  # attention weights that stay in a CPU core's cache
AMX = torch.cpu._is_amx_tile_supported()


class Attention(TimmAttention):
    """Multi-head self-attention that can stop in front of its projection."""

    def attend(self, x: torch.Tensor, queries: slice = ALL) -> torch.Tensor:
        """Attention before its projection, `[n, len(queries), width]`, of tokens `[n, tokens, width]`."""
        n, _, width = x.shape
        x = x.to(self.qkv.weight.dtype)
        if queries == ALL:
            query, key, value = self.qkv(x).view(n, -1, 3, width // HEAD_WIDTH, HEAD_WIDTH).unbind(2)
        else:
            weight, bias = self.qkv.weight, self.qkv.bias
            query = F.linear(x[:, queries], weight[:width], bias[:width]).view(n, -1, width // HEAD_WIDTH, HEAD_WIDTH)
            rest = F.linear(x, weight[width:], bias[width:])
            key, value = rest.view(n, -1, 2, width // HEAD_WIDTH, HEAD_WIDTH).unbind(2)
        heads = (part.transpose(1, 2) for part in (query, key, value))
        return attention(*heads).transpose(1, 2).reshape(n, -1, width)


class Packed(nn.Module):
    """A bf16 linear map for the CPU, without autograd: its weight in oneDNN's own layout, GELU in the same pass.

    The operators are those that torch's compiler emits for CPUs.
    """

    ROWS = 4096  # the layout suits products of about so many tokens

    def __init__(self, linear: nn.Linear, activation: str = "none") -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight, self.ROWS)
        self.bias, self.activation = linear.bias, activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, self.activation, [], "none")


class Block(TimmBlock):
    """A DeiT block of `width` channels: heads of `HEAD_WIDTH`, a four times wider MLP, biases everywhere."""

    attn: Any
    mlp: Any

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        norm: Any = partial(nn.LayerNorm, eps=eps)
        super().__init__(width, width // HEAD_WIDTH, qkv_bias=True, norm_layer=norm, attn_layer=Attention)

    def freeze(self, dtype: torch.dtype) -> None:
        """Cast the products to `dtype` for good; only `forward_` works afterwards."""
        attn, mlp = self.attn.to(dtype), self.mlp.to(dtype)
        on_cpu = attn.proj.weight.device.type == "cpu"
        if dtype == torch.bfloat16 and on_cpu and torch.ops.mkldnn._is_mkldnn_bf16_supported():
            attn.qkv, attn.proj = Packed(attn.qkv), Packed(attn.proj)
            mlp.fc1, mlp.act, mlp.fc2 = Packed(mlp.fc1, "gelu"), nn.Identity(), Packed(mlp.fc2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """timm's `forward` with the attention below; for training."""
        x = x + self.attn.proj(self.attn.attend(self.norm1(x)))
        return x + self.mlp(self.norm2(x))

    def forward_(self, x: torch.Tensor) -> torch.Tensor:
        """timm's `forward` in place, without autograd."""
        x += self.attn.proj(self.attn.attend(self.norm1(x)))
        x += self.mlp(self.norm2(x).to(self.mlp.fc1.weight.dtype))
        return x


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Scaled dot-product attention of `[n, heads, tokens, HEAD_WIDTH]`.

    On CPUs torch's fused attention has bf16 arithmetic for AMX alone, where it takes half the time of what follows
    (Intel, 602 tokens, base). Without AMX, oneDNN's products with a softmax between them are half as fast again as
    the fused one, as many clips at a time as keep their weights in the cache.
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16 or AMX:
        return F.scaled_dot_product_attention(query, key, value)
    clips = max(1, CACHED // (query[0, ..., 0].numel() * key.shape[2]))
    parts = zip(*(x.split(clips) for x in (query * HEAD_WIDTH**-0.5, key.transpose(2, 3), value)), strict=True)
    return torch.cat([(q @ k).softmax(-1) @ v for q, k, v in parts])
