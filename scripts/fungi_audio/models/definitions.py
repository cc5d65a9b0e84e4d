"""What a family says of itself without torch, in its `definition` module, so that the DAG is built without a network.

A definition module has:

* ``OPTIONS``: JSON-schema properties of the family's own options in the config, each with a default and a description;
* ``SHAPING``: the options that decide the shapes of gradient and embedding, and so of projection and heads;
* ``PRESETS``: name -> `Preset`, the public checkpoints;
* ``FRAMES``: whether its networks have embeddings over time;
* ``RANDOM``: kinds of seeded, untrained networks, for ``checkpoint: random:KIND``;
* ``check(options)``: raises ConfigError when options contradict each other;
* ``reading(options, dataset)``: the `Reading` of a backbone on a dataset;
* ``shape(options, checkpoint)``: the `Shape` that the cost model needs;
* ``dataset_options(dataset)``: what of a dataset's definition the network is built with.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..registry import REGISTRY, module


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
        measured: whether the dataset's mean and standard deviation normalise it.
    """

    inputs: str | None
    rate: int
    seconds: float | None
    values: float
    measured: bool = False


@dataclass(frozen=True)
class Shape:
    """A network as the cost model sees it: a transformer behind a front part, or (depth 0) something else.

    Attributes:
        width: channels of a token and of the embedding.
        depth: transformer blocks.
        tokens_per_second: of audio.
        special: tokens beside those (cls).
        front: operations a second of audio in front of the blocks (patches, convolutions), or of the whole network.
        longest: seconds that go through the blocks at once; longer clips are cut into chunks, the last one padded.
        stored: numbers that are kept of one input; 0 when nothing is.
    """

    width: int
    depth: int
    tokens_per_second: float
    special: int = 0
    front: float = 0.0
    longest: float = math.inf
    stored: int = 0

    def tokens(self, seconds: float) -> float:
        """Tokens of an input that goes through the blocks at once."""
        return min(seconds, self.longest) * self.tokens_per_second + self.special

    def forward_flops(self, seconds: float) -> float:
        """Operations of one forward pass over a clip; a multiply-add counts as two.

        Per block: qkv, projection and the four-fold MLP (12 width² weights, each used once a token) and the two
        attention products. Norms (below 2 %) are left out, the number of heads does not matter.
        """
        tokens, passes = self.tokens(seconds), max(1, math.ceil(seconds / self.longest))
        block = 2 * tokens * 12 * self.width**2 + 4 * tokens**2 * self.width
        return passes * self.depth * block + seconds * self.front


def presets() -> dict[str, Preset]:
    """The public checkpoints of all families, by name."""
    families = [module("definition", family) for family in REGISTRY["definition"]]
    return {name: preset for family in families for name, preset in family.PRESETS.items()}
