"""The one exception family: mistakes and faults that a person can act on.

A message says what was wrong, where (file, key, clip), what was expected and what to do. Scripts show
it without a traceback; anything else that is raised is a defect of this project.
"""

import difflib
from collections.abc import Iterable, Sequence
from concurrent.futures.process import BrokenProcessPool


class FungiError(Exception):
    """Base of every error raised on purpose."""


class ConfigError(FungiError):
    """A value of the configuration is unknown, of the wrong type or contradicts another."""


class DataError(FungiError):
    """A dataset, archive, metadata file or audio clip is not what its layout says."""


class CheckpointError(FungiError):
    """A checkpoint cannot be loaded safely or does not fit the model."""


class StorageError(FungiError):
    """A file cannot be fetched, read or written: network, disk space, permissions."""


class NumericalError(FungiError):
    """A computation gave NaN or Inf where a number was expected."""


class NotFinite(NumericalError):
    """Some clips of a batch gave NaN or Inf.

    Attributes:
        clips: their positions in the batch.
    """

    def __init__(self, clips: list[int]) -> None:
        super().__init__(f"the loss or its gradient is not finite (clips {clips[:5]} of the batch)")
        self.clips = clips

    def named(self, clip_ids: Sequence[str]) -> NumericalError:
        """The same for a person, by the ids of the batch's clips."""
        names = ", ".join(clip_ids[clip] for clip in self.clips[:5])
        return NumericalError(f"the loss or its gradient is not finite for {len(self.clips)} clips: {names}")


class ClusterError(FungiError):
    """Slurm is absent, silent or refuses what a job asks for."""


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; torch says so of a GPU by its type, of the CPU only by its text."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


def worker_died(error: BaseException) -> bool:
    """Whether a process that did a part of the work was killed: of a pool, a loader or a distributed training."""
    return (
        isinstance(error, BrokenProcessPool)
        or type(error).__name__ == "ProcessExitedException"
        or "DataLoader worker" in str(error)
    )


def suggest(name: str, known: Iterable[str]) -> str:
    """What a misspelt name may have been, to follow it in a message."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
