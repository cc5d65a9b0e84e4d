"""Seeds that belong to a name: the same on every machine, whatever the order of the work."""

import hashlib


def named_seed(*name: object) -> int:
    """A 63-bit seed from a name, e.g. ``named_seed(42, "head", "kl")``; stable over machines and versions."""
    text = "\x1f".join(map(str, name)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
