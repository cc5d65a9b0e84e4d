"""Formulas of the site: fences named `math` become MathML, which browsers draw without JavaScript."""

import re

from latex2mathml.converter import convert

FENCE = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown: str, **_: object) -> str:
    """MkDocs calls this with every page before it is rendered."""
    return FENCE.sub(lambda found: convert(found[1].strip(), display="block"), markdown)
