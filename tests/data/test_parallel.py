"""Many items in threads: order, and what an error leaves undone."""

import threading

import pytest

from fungi_audio import parallel
from fungi_audio.errors import DataError


def test_results_in_order_beyond_one_window() -> None:
    count = parallel.AHEAD + 7
    assert parallel.for_each("count", lambda item: item + 1, range(count), threads=3) == list(range(1, count + 1))


def test_an_error_stops_what_has_not_begun() -> None:
    begun = []
    gate = threading.Event()

    def work(item: int) -> None:
        begun.append(item)
        if item == 0:
            raise DataError("broken clip")
        gate.wait(10)

    threading.Timer(2, gate.set).start()  # time enough to see the error, on a busy machine too
    with pytest.raises(DataError, match="broken clip"):
        parallel.for_each("work", work, range(1000), threads=2)
    assert len(begun) < 10
