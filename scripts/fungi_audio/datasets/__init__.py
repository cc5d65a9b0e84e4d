"""Layouts of datasets: each reads its metadata into one `Listing`; `index` makes the clip table of it.

A layout's module has `read(folder, options)` and `METADATA`, the files that it reads at fixed places of the dataset's
folder or its subfolder ("." is that folder itself).
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import registry
from .listing import Listing


def read_listing(folder: Path, layout: str, options: Mapping[str, Any]) -> Listing:
    """What a dataset's metadata says, by the layout's own `read(folder, options)`.

    Raises:
        ConfigError: no such layout.
        DataError: the folder is not in this layout.
    """
    listing: Listing = registry.module("layout", layout).read(folder, options)
    return listing


def stamps(folder: Path, layout: str, options: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """Path, size and time of change of what lists the clips of a user's folder, to notice that it was edited.

    Snakemake sees no change inside a folder.
    """
    names = [options["metadata"], *registry.module("layout", layout).METADATA]
    roots = [folder, *(Path(entry) for entry in os.scandir(folder) if entry.is_dir())]
    found = {path: path.stat() for root in roots for name in names if (path := root / name).exists()}
    return sorted((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in found.items())
