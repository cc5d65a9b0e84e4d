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


class Attention(TimmAttention):
    """Multi-head self-attention that can stop in front of its projection."""

    def attend(self, x: torch.Tensor, queries: slice = ALL) -> torch.Tensor:
        """Attention before its projection, `[n, len(queries), width]`, of tokens `[n, tokens, width]`."""
        n, _, width = x.shape
        weight, bias = self.qkv.weight, self.qkv.bias
        x = x.to(weight.dtype)
        if queries == ALL:
            query, key, value = F.linear(x, weight, bias).view(n, -1, 3, width // HEAD_WIDTH, HEAD_WIDTH).unbind(2)
        else:
            query = F.linear(x[:, queries], weight[:width], bias[:width]).view(n, -1, width // HEAD_WIDTH, HEAD_WIDTH)
            rest = F.linear(x, weight[width:], bias[width:])
            key, value = rest.view(n, -1, 2, width // HEAD_WIDTH, HEAD_WIDTH).unbind(2)
        heads = (part.transpose(1, 2) for part in (query, key, value))
        return attention(*heads).transpose(1, 2).reshape(n, -1, width)


class Block(TimmBlock):
    """A DeiT block of `width` channels: heads of `HEAD_WIDTH`, a four times wider MLP, biases everywhere."""

    attn: Any
    mlp: Any

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        norm: Any = partial(nn.LayerNorm, eps=eps)
        super().__init__(width, width // HEAD_WIDTH, qkv_bias=True, norm_layer=norm, attn_layer=Attention)

    def forward_(self, x: torch.Tensor) -> torch.Tensor:
        """timm's `forward` in place, without autograd."""
        x += self.attn.proj(self.attn.attend(self.norm1(x)))
        x += self.mlp(self.norm2(x).to(self.mlp.fc1.weight.dtype))
        return x


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Scaled dot-product attention of `[n, heads, tokens, HEAD_WIDTH]`.

    torch's fused attention has no bf16 arithmetic on CPUs: there, oneDNN's products with a softmax between
    them are half as fast again, a clip at a time so that the weights stay in the cache.
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value)
    clips = zip(query * HEAD_WIDTH**-0.5, key.transpose(2, 3), value, strict=True)
    return torch.stack([(q @ k).softmax(-1) @ v for q, k, v in clips])
