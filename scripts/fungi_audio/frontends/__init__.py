"""Front ends: from a waveform to what a network reads. Nothing here imports torch before a front end is used."""

from importlib import import_module
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from .base import FrontEnd

CACHED = {"fbank": "kaldi", "dbmel": "dbmel"}
"""First word of a cache's name: the module of its front end, which has a function `named(name)`."""


def module_of(name: str) -> str:
    """The module below the package, e.g. ``"frontends.kaldi"``, of the front end with the cache file `{name}.npy`.

    Raises:
        ConfigError: no such front end.
    """
    word = name.partition("-")[0]
    if word not in CACHED:
        raise ConfigError(f"there is no front end {name!r}; their names begin with {', '.join(CACHED)}")
    return f"{__name__.rpartition('.')[2]}.{CACHED[word]}"


def named(name: str) -> "FrontEnd":
    """The front end with the cache file `{name}.npy`, without statistics of its own.

    Raises:
        ConfigError: no such front end.
    """
    front: FrontEnd = import_module(f"..{module_of(name)}", __name__).named(name)
    return front
