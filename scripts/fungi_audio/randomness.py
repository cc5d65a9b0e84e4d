"""Random numbers that belong to a name, never to the order of the work.

`generator` gives one seeded stream a name (a head, a projection, a few-shot draw). `uniform` is
counter-based: number j of a key depends on (key, j) alone and is computed with integers, so it is the
same for every batch size, worker count and device.
"""

import torch

from .seeds import named_seed

_MASK = 0xFFFFFFFF


def generator(*name: object) -> torch.Generator:
    """A CPU generator seeded by `named_seed`."""
    return torch.Generator().manual_seed(named_seed(*name))


def _signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value


def _shift(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical right shift of int32."""
    return (x >> bits).bitwise_and_((1 << (32 - bits)) - 1)


def mix(x: torch.Tensor) -> torch.Tensor:
    """The 32-bit integer hash "lowbias32" (C. Wellons, hash-prospector, public domain) on int32, in place."""
    x ^= _shift(x, 16)
    x *= 0x7FEB352D
    x ^= _shift(x, 15)
    x *= _signed(0x846CA68B)
    x ^= _shift(x, 16)
    return x


def uniform(keys: torch.Tensor, count: int) -> torch.Tensor:
    """Uniform numbers in [0, 1), multiples of 2**-24.

    Args:
        keys: int64 `[n]`, e.g. from `named_seed`; its device is the result's.
        count: how many numbers for each key, below 2**31.

    Returns:
        float32 `[n, count]`; the first numbers of a key do not depend on `count`.
    """
    low = (keys & _MASK).to(torch.int32)
    high = (keys >> 32).to(torch.int32)
    x = mix(torch.arange(count, dtype=torch.int32, device=keys.device))
    x = x.unsqueeze(0) ^ mix(low.clone()).unsqueeze(1)
    x += high.unsqueeze(1)
    return _shift(mix(x), 8).to(torch.float32).mul_(2.0**-24)
