"""A short run of the fuzzer with every test run, and the long one."""

from collections.abc import Callable

import pytest

from tests.tools.fuzz import READERS, fuzz

LONG = 100_000


@pytest.mark.fault(
    "{reader}", "fuzzing, {cases} random and damaged inputs", "read, or refused with the project's own error"
)
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("cases", [200, pytest.param(LONG // len(READERS) + 1, marks=pytest.mark.slow)])
def test_fuzz(reader: str, cases: int, record_property: Callable[[str, object], None]) -> None:
    tried, _ = fuzz(reader, cases)
    record_property("times", tried)
    assert tried >= cases / 2, "hypothesis found no more inputs"
