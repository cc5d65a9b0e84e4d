"""The rules of a run as a picture: inline SVG that takes its colours from the page."""

from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from html import escape

WIDTH, HEIGHT, GAP_X, GAP_Y = 150, 34, 14, 30


def reduced(graph: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The graph without the edges that a longer way implies."""

    def before(rule: str) -> set[str]:
        return {far for source in graph.get(rule, ()) for far in (source, *before(source))}

    return {
        rule: [source for source in sources if not any(source in before(other) for other in sources)]
        for rule, sources in graph.items()
    }


def layers(graph: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Rules by their distance from the start, each row sorted to lie below what it reads.

    Args:
        graph: rule -> rules whose files it reads.
    """
    level: dict[str, int] = {}
    for rule in TopologicalSorter(graph).static_order():
        level[rule] = 1 + max((level[source] for source in graph.get(rule, ())), default=-1)
    rows: list[list[str]] = [[] for _ in range(1 + max(level.values(), default=-1))]
    place: dict[str, float] = {}
    for depth, row in enumerate(rows):
        here = [rule for rule in level if level[rule] == depth]
        above = {rule: [place[source] for source in graph.get(rule, ())] for rule in here}
        row += sorted(here, key=lambda rule: (sum(above[rule]) / max(len(above[rule]), 1), rule))
        place |= {rule: number - (len(row) - 1) / 2 for number, rule in enumerate(row)}
    return rows


def svg(graph: Mapping[str, Sequence[str]], jobs: Mapping[str, int]) -> str:
    """The graph as an `<svg>` element, top to bottom.

    Args:
        graph: rule -> rules whose files it reads.
        jobs: rule -> number of jobs.
    """
    graph = reduced(graph)
    rows = layers(graph)
    width = max((len(row) for row in rows), default=1) * (WIDTH + GAP_X)
    height = len(rows) * (HEIGHT + GAP_Y) - GAP_Y + 4
    x, y = {}, {}
    for depth, row in enumerate(rows):
        for number, rule in enumerate(row):
            x[rule] = width / 2 + (number - (len(row) - 1) / 2) * (WIDTH + GAP_X)
            y[rule] = 2 + depth * (HEIGHT + GAP_Y)
    parts = []
    for rule, sources in graph.items():
        for source in sources:
            top, bottom = y[source] + HEIGHT, y[rule]
            bend = (top + bottom) / 2
            parts.append(
                f'<path d="M{x[source]:g} {top:g}C{x[source]:g} {bend:g} {x[rule]:g} {bend:g} {x[rule]:g} {bottom:g}"/>'
            )
    for rule in x:
        count = f" × {jobs[rule]}" if jobs.get(rule, 1) > 1 else ""
        parts.append(
            f'<rect x="{x[rule] - WIDTH / 2:g}" y="{y[rule]:g}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
            f'<text x="{x[rule]:g}" y="{y[rule] + HEIGHT / 2 + 5:g}">{escape(rule + count)}</text>'
        )
    label = f"Rules of the run and what they read: {', '.join(x)}"
    return (
        f'<svg class="rules" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}" '
        f'style="max-width:{width}px">{"".join(parts)}</svg>'
    )
