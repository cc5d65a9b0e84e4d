"""What a family says of itself without torch, in its `definition` module, so that the DAG is built without a network.

A definition module has:

* ``OPTIONS``: JSON-schema properties of the family's own options in the config, each with a default and a description;
* ``PRESETS``: name -> `Preset`, the public checkpoints;
* ``check(options)``: raises ConfigError when options contradict each other;
* ``reading(options, dataset)``: the `Reading` of a backbone on a dataset;
* ``shape(options, checkpoint)``: the `Shape` that the cost model needs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Place(NamedTuple):
    """One place where a checkpoint lies.

    Attributes:
        url: https://…, hf://owner/name@revision/file or gdrive://ID.
        sha256: of the file there; None records it at the first download.
    """

    url: str
    sha256: str | None = None


class Preset(NamedTuple):
    """A public checkpoint.

    Attributes:
        family: that reads it.
        places: tried in turn; their layouts may differ, since a reader tells them apart.
        about: size, data and licence, for people.
        options: of the family, where the checkpoint asks for others than the defaults.
    """

    family: str
    places: tuple[Place, ...]
    about: str
    options: Mapping[str, Any] = {}


class Reading(NamedTuple):
    """What a backbone reads of a dataset.

    Attributes:
        inputs: name of the front end's cache, e.g. ``"fbank-512"``; None: computed from the audio each time.
        rate: samples a second of the audio.
        seconds: length of every input; None: as long as its clip.
        values: numbers a second of audio, for the size of the cache.
    """

    inputs: str | None
    rate: int
    seconds: float | None
    values: float


@dataclass(frozen=True)
class Shape:
    """A network as the cost model sees it: a transformer behind a front part, or (depth 0) something else.

    Attributes:
        width: channels of a token and of the embedding.
        depth: transformer blocks.
        tokens_per_second: of audio.
        special: tokens beside those (cls).
        front: operations a second of audio in front of the blocks (patches, convolutions), or of the whole network.
        longest: seconds that go through the blocks at once; longer clips are cut into chunks.
        stored: numbers that are kept of one input; 0 when nothing is.
    """

    width: int
    depth: int
    tokens_per_second: float
    special: int = 0
    front: float = 0.0
    longest: float = field(default=float("inf"))
    stored: int = 0

    def forward_flops(self, seconds: float) -> float:
        """Operations of one forward pass over a clip; a multiply-add counts as two.

        Per block: qkv, projection and the four-fold MLP (12 width² weights, each used once a token) and the two
        attention products. Norms (below 2 %) are left out, the number of heads does not matter.
        """
        chunk = min(seconds, self.longest)
        tokens = chunk * self.tokens_per_second + self.special
        block = 2 * tokens * 12 * self.width**2 + 4 * tokens**2 * self.width
        return seconds / chunk * self.depth * block + seconds * self.front
