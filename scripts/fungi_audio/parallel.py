"""The same function over many items, in threads, with a progress bar."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from .progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 4096  # items handed to the threads at once: a future each for millions of clips would need gigabytes


def for_each(description: str, function: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """Results in the order of `items`. An exception in one item is raised and those not begun are dropped."""
    results: list[Result] = []
    with progress(description, len(items)) as bar, ThreadPoolExecutor(max(1, threads)) as pool:
        try:
            for start in range(0, len(items), AHEAD):
                for result in pool.map(function, items[start : start + AHEAD]):
                    results.append(result)
                    bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return results
