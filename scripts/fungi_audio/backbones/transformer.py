"""A pre-norm transformer block (Vaswani et al., 2017; Dosovitskiy et al., arXiv:2010.11929).

Own code because the target layer needs attention for a few queries only, because every product runs in
the dtype of its weights beside a float32 residual stream, and because timm's blocks cost 1.6 s of imports.
Parameter names are those of DeiT and timm.
"""

import torch
import torch.nn.functional as F
from torch import nn

HEAD_WIDTH = 64
ALL = slice(None)


class Attention(nn.Module):
    """Multi-head self-attention with heads of `HEAD_WIDTH`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(self.attend(x))


class Mlp(nn.Module):
    """Two linear maps with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x.to(self.fc1.weight.dtype))))


class Block(nn.Module):
    """Attention and a four times wider MLP, each behind a LayerNorm and added to its input."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps)
        self.attn = Attention(width)
        self.norm2 = nn.LayerNorm(width, eps)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def forward_(self, x: torch.Tensor) -> torch.Tensor:
        """`forward` in place, without autograd."""
        x += self.attn(self.norm1(x))
        x += self.mlp(self.norm2(x))
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
