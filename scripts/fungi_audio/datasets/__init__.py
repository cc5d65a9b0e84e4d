"""Layouts of datasets: each reads its metadata into one `Listing`; `index` makes the clip table of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import registry
from .layout import Listing


def read_listing(folder: Path, layout: str, options: Mapping[str, Any]) -> Listing:
    """What a dataset's metadata says, by the layout's own `read(folder, options)`.

    Raises:
        ConfigError: no such layout.
        DataError: the folder is not in this layout.
    """
    listing: Listing = registry.module("layout", layout).read(folder, options)
    return listing
