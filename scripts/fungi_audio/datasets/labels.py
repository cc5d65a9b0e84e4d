"""Labels of clips, and of moments in them: the only reader of label columns.

A clip table has a list of every clip's labels (`labels`). Text with several labels joined by ";" is what older files
and predictions have; only this module takes it apart.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..errors import DataError

SEPARATOR = ";"
ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "floor": lambda steps: np.floor(steps + _edge(steps)),
    "round": lambda steps: np.floor(steps + 0.5),
    "ceil": lambda steps: np.ceil(steps - _edge(steps)),
}


def _edge(steps: np.ndarray) -> np.ndarray:
    """How near to a step's edge is on it: a thousandth of a step, and what float32 makes of times far behind."""
    return 1e-3 + 2e-7 * np.abs(steps)


class Labels(NamedTuple):
    """Which clip has which label, and when.

    Attributes:
        classes: names.
        clip: bool `[n, classes]`.
        events: `row` (of `clip`), `class` (a name), `onset`, `offset` (seconds); None where no times are known.
    """

    classes: list[str]
    clip: np.ndarray
    events: pd.DataFrame | None = None

    def frames(
        self, rows: Sequence[int] | np.ndarray, seconds: np.ndarray, onset: str = "floor", offset: str = "ceil"
    ) -> np.ndarray:
        """Labels of time steps, bool `[n, T, classes]`.

        A step reaches from its own time to that of the next. By default an event covers every step that it touches.

        Args:
            rows: clips, `[n]`; a row may occur more than once.
            seconds: when each step begins, `[T]`, evenly spaced.
            onset, offset: how an event's times become steps: ``"floor"``, ``"round"`` or ``"ceil"``; the step of the
                offset is the first that is not covered.

        Raises:
            DataError: the dataset has no events, or one of no class.
        """
        if self.events is None:
            raise DataError("the dataset does not say when its labels begin and end; only whole clips have labels")
        number = {name: index for index, name in enumerate(self.classes)}
        unknown = sorted(set(self.events["class"]) - number.keys())
        if unknown:
            raise DataError(f"events have the label {unknown[0]!r}, which is no class of the dataset")
        start, end = float(seconds[0]), float(seconds[-1])
        hop = (end - start) / (len(seconds) - 1) if len(seconds) > 1 else np.inf
        first = ROUNDINGS[onset]((self.events["onset"].to_numpy() - start) / hop)
        past = ROUNDINGS[offset]((self.events["offset"].to_numpy() - start) / hop) if len(seconds) > 1 else first + 1
        of_row = self.events.groupby("row").indices
        found = np.zeros((len(rows), len(seconds), len(self.classes)), dtype=bool)
        columns = self.events["class"].map(number).to_numpy()
        for clip, row in enumerate(rows):
            for event in of_row.get(row, ()):
                found[clip, max(0, int(first[event])) : max(0, int(past[event])), columns[event]] = True
        return found


def read(table: pd.DataFrame, multilabel: bool, classes: Sequence[str] | None = None) -> Labels:
    """Labels of the clips of a table, one row a clip.

    Args:
        table: `clip_id`, and `labels` or `label`.
        multilabel: clips may have several labels; for tables with `label` alone.
        classes: in the order wanted; by default those of the clips, sorted.

    Raises:
        DataError: a clip has no label, or one that is not among `classes`.
    """
    labels = names(table, multilabel)
    without = [clip for clip, of_clip in zip(table["clip_id"], labels, strict=True) if not of_clip]
    if without:
        raise DataError(f"{len(without)} clips have no label, for example {without[0]}")
    found = {name for of_clip in labels for name in of_clip}
    classes = sorted(found) if classes is None else list(classes)
    if unknown := found - set(classes):
        pairs = zip(table["clip_id"], labels, strict=True)
        clip, name = next((clip, name) for clip, of_clip in pairs for name in of_clip if name in unknown)
        raise DataError(f"clip {clip} has the label {name!r}, which is no class of the dataset")
    return Labels(classes, matrix(labels, classes))


def names(table: pd.DataFrame, multilabel: bool) -> list[list[str]]:
    """Labels of every row: the lists `labels`, or for a table without them the texts `label`."""
    if "labels" not in table:
        return split(table["label"], multilabel)
    return [[] if of_clip is None else list(of_clip) for of_clip in table["labels"]]


def split(texts: pd.Series, multilabel: bool) -> list[list[str]]:
    """Labels of every text, as `label` and predictions have them."""
    filled = ["" if pd.isna(text) else str(text) for text in texts]
    return [[name for name in (text.split(SEPARATOR) if multilabel else [text]) if name] for text in filled]


def matrix(labels: Sequence[Sequence[str]], classes: Sequence[str]) -> np.ndarray:
    """Which row has which label, bool `[n, classes]`.

    Raises:
        KeyError: a label is not among the classes.
    """
    number = {name: index for index, name in enumerate(classes)}
    found = np.zeros((len(labels), len(classes)), dtype=bool)
    for row, of_row in enumerate(labels):
        found[row, [number[name] for name in of_row]] = True
    return found
