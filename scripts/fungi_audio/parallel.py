"""The same function over many items, in threads, with a progress bar."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from .progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")


def for_each(description: str, function: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """Results in the order of `items`. An exception in one item is raised and those not begun are dropped."""
    with progress(description, len(items)) as bar, ThreadPoolExecutor(max(1, threads)) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in futures]
