"""Front ends: from a waveform to what a network reads. Nothing here imports torch before a front end is used."""

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ConfigError

if TYPE_CHECKING:
    from .base import FrontEnd


class Kind(NamedTuple):
    """A front end whose values are cached.

    Attributes:
        module: below this package; it has a function `named(name)`.
        rate: samples a second of its audio.
        values: numbers a second of audio.
    """

    module: str
    rate: int
    values: float


CACHED = {  # by the first word of the cache's name; one that ends in a number gives all clips so many frames
    "fbank": Kind("kaldi", 16_000, 12_800),
    "dbmel": Kind("dbmel", 16_000, 6_400),
}
FIXED = r"[a-z]+(-[a-z]+)*-\d+"
RAGGED = r"[a-z]+(-[a-z0-9]*[a-z])*"


def module_of(name: str) -> str:
    """The module below the package, e.g. ``"frontends.kaldi"``, of the front end with the cache file `{name}.npy`.

    Raises:
        ConfigError: no such front end.
    """
    return f"{__name__.rpartition('.')[2]}.{kind_of(name).module}"


def kind_of(name: str) -> Kind:
    """What the first word of a cache's name says.

    Raises:
        ConfigError: no such front end.
    """
    word = name.partition("-")[0]
    if word not in CACHED:
        raise ConfigError(f"there is no front end {name!r}; their names begin with {', '.join(CACHED)}")
    return CACHED[word]


def named(name: str) -> "FrontEnd":
    """The front end with the cache file `{name}.npy`, without statistics of its own.

    Raises:
        ConfigError: no such front end.
    """
    front: FrontEnd = import_module(f"..{module_of(name)}", __name__).named(name)
    return front
