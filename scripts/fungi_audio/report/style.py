"""Colours, symbols and words of the figures, for light and dark screens."""

from html import escape
from typing import Any

# After Okabe and Ito, moved until all pairs (and the grey) differ by 17 in CIE Lab for normal and three kinds of
# colour-blind vision, with a contrast of 3 to the background.
LIGHT = ["#4F70CC", "#D55E00", "#04724A", "#992570", "#309ED4", "#222222"]
DARK = ["#53B1E5", "#FF8A4C", "#2CE2AB", "#E096BD", "#F0E442", "#F4F4F4"]
SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x", "cross", "star", "triangle-down", "pentagon", "hourglass"]
DASHES = ["solid", "dash", "dot", "dashdot", "longdash"]
BASELINE = "#808080"
GAIN, LOSS = "#3B8FC7", "#D9622B"

Figure = dict[str, Any]


def themes() -> dict[str, Figure]:
    """Plotly templates by colour scheme."""
    light = _theme("#1b1f24", "#d8dde3", LIGHT, [[0, "#f7f9fb"], [0.5, "#6aaed6"], [1, "#08306b"]])
    dark = _theme("#e3e7ec", "#3a424c", DARK, [[0, "#1d232a"], [0.5, "#23517a"], [1, "#2f7fb8"]])
    return {"light": light, "dark": dark}


def _theme(ink: str, line: str, colours: list[str], scale: list[Any]) -> Figure:
    axis = {"gridcolor": line, "linecolor": line, "automargin": True}
    axis |= {"zeroline": False, "zerolinecolor": ink, "zerolinewidth": 1.5}
    layout = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": ink, "size": 13, "family": "system-ui, sans-serif"},
        "colorway": colours,
        "xaxis": axis,
        "yaxis": axis,
        "hoverlabel": {"align": "left"},
    }
    return {"layout": layout, "data": {"heatmap": [{"colorscale": scale}]}}


def text(value: object) -> str:
    """A name as plotly shows it: its `<` is no tag."""
    return escape(str(value))


def wrapped(combination: str, width: int = 16) -> str:
    """A combination of features, broken after a ``+`` where it is long."""
    lines = [""]
    for name in combination.split("+"):
        joined = f"{lines[-1]}+{name}" if lines[-1] else name
        if lines[-1] and len(joined) > width:
            lines.append(f"+{name}")
        else:
            lines[-1] = joined
    return "<br>".join(map(text, lines))


def figure(data: list[Figure], alt: str, height: int = 420, **layout: Any) -> Figure:
    """A plotly figure; `alt` describes it to those who cannot see it."""
    base = {
        "height": height,
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"size": 11.5}},
        "meta": {"alt": alt},
    }
    return {"data": data, "layout": base | layout}


def axis(title: str, **more: Any) -> Figure:
    return {"title": {"text": title, "standoff": 8}, **more}
