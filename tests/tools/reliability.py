"""The table of docs/reliability.md, written by the tests that try each fault (a pytest plugin).

A test says which fault it tries and what is to become of it:

    @pytest.mark.fault("download", "the disk fills up", "one message; what has arrived is kept")

Names in braces are filled in from the test's parameters, and `record_property("times", n)` says how often one
test tries. `python -m pytest -m fault --reliability` rewrites the table. Rows of tests that were left out, the
slow ones say, stay as they are; rows whose test is gone go.
"""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
HEAD = "| part | fault | tried | outcome | test |\n|---|---|---:|---|---|\n"


class Fault(NamedTuple):
    """What a test tries."""

    part: str
    fault: str
    outcome: str


class Row(NamedTuple):
    times: int
    outcome: str
    test: str


RESULTS = pytest.StashKey[dict[tuple[str, str], Row | None]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reliability", action="store_true", help=f"write the faults that were tried into {PAGE.name}")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(part, fault, outcome): a row of docs/reliability.md")
    config.stash[RESULTS] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Every fault there is, in the order of the tests, before any are deselected."""
    for item in items:
        config.stash[RESULTS] |= {(fault.part, fault.fault): None for fault in faults(item)}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if (report.when == "call" and not report.skipped) or report.failed:
        results = item.config.stash[RESULTS]
        times = int(dict(report.user_properties).get("times", 1))  # type: ignore[call-overload]
        for part, fault, outcome in faults(item):
            before = results[part, fault] or Row(0, cell(outcome), f"`{item.location[0]}`")
            worst = before.outcome if report.passed else "**NOT AS IT SHOULD BE**"
            results[part, fault] = Row(before.times + times, worst, before.test)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption("reliability"):
        text, _, table = PAGE.read_text(encoding="utf-8").partition(HEAD)
        found = [line.strip("| ").split(" | ") for line in table.split("\n") if line]
        earlier = {(part, fault): Row(int(times), *rest) for part, fault, times, *rest in found}
        results = sorted(session.config.stash[RESULTS].items(), key=lambda result: result[0][0])
        rows = {key: row or earlier.get(key) for key, row in results}
        lines = [f"| {' | '.join([*key, str(row.times), *row[1:]])} |" for key, row in rows.items() if row]
        PAGE.write_text(text + HEAD + "\n".join(lines) + "\n", encoding="utf-8")


def faults(item: pytest.Item) -> Iterator[Fault]:
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    for mark in item.iter_markers("fault"):
        fault = Fault(*mark.args)
        yield Fault(cell(fault.part.format(**parameters)), cell(fault.fault.format(**parameters)), fault.outcome)


def cell(text: str) -> str:
    """Text as a cell of a table, on one line."""
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return shown.replace("|", "&#124;").replace("<", "&lt;")
