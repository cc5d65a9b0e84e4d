"""Progress: a bar with rate and time left on a terminal, a plain line now and then in a log."""

import sys
from typing import Any

from tqdm import tqdm

LOG_INTERVAL = 10.0


def progress(description: str, total: int | None, unit: str = "clip", shown: bool = True) -> Any:
    """A `tqdm` bar (a context manager; call `update(n)`) for `total` items of `unit` ("B" for bytes); None: unknown.

    On a terminal it redraws in place. Elsewhere it writes one line every ten seconds. Not `shown`: nothing.
    """
    terminal = sys.stderr.isatty()
    return tqdm(
        desc=description,
        disable=not shown,
        total=total,
        unit=unit,
        unit_scale=unit == "B",
        dynamic_ncols=terminal,
        mininterval=0.2 if terminal else LOG_INTERVAL,
        maxinterval=LOG_INTERVAL,
        file=sys.stderr if terminal else _Lines(),
        leave=True,
    )


class _Lines:
    """A stream for tqdm that ends each redraw with a line end instead of a carriage return."""

    def write(self, text: str) -> None:
        text = text.strip("\r\n ")
        if text:
            print(text, file=sys.stderr, flush=True)

    def flush(self) -> None:
        sys.stderr.flush()
