"""What a pickle may hold beside tensors, read by stand-ins: no constructor of another library runs on a file's say."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

NUMBERS = "?bBhHiIlLqQefd"  # NumPy's type characters
LIMIT = 20_000  # things in a value, since a small file can name one list often
DEPTH = 20


class Arguments(dict[str, Any]):
    """Stands for `argparse.Namespace`: a dict of its attributes."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.update(state)


class Kind:
    """Stands for `numpy.dtype`, of numbers alone."""

    def __init__(self, code: str, *_: object) -> None:
        self.type = np.dtype(code) if isinstance(code, str) and code[1:].isdecimal() else np.dtype(object)
        if self.type.char not in NUMBERS:
            raise pickle.UnpicklingError(f"Unsupported global: GLOBAL numpy.dtype({code!r})")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.type = self.type.newbyteorder(">" if state[1] == ">" else "<")


def number(kind: Kind, content: bytes) -> int | float | bool:
    """Stands for `numpy.core.multiarray.scalar`: a number of Python."""
    return np.frombuffer(content, kind.type, count=1)[0].item()


READ: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (Arguments, "argparse.Namespace"),
    (Kind, "numpy.dtype"),
    *((number, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]  # for `torch.serialization.safe_globals`


def is_plain(value: object) -> bool:
    """Whether a value is of numbers, text, lists and dicts alone, neither deep nor too many."""
    pending, count = [(value, 0)], 0
    while pending and count < LIMIT:
        count += 1
        item, depth = pending.pop()
        if isinstance(item, dict):
            inner = [*item, *item.values()]
        elif isinstance(item, list | tuple):
            inner = list(item)
        elif item is None or isinstance(item, bool | int | float | str):
            continue
        else:
            return False
        if depth == DEPTH or len(inner) > LIMIT:
            return False
        pending += [(one, depth + 1) for one in inner]
    return not pending
