"""Where a dataset comes from: a URL, a local archive, a local folder or a synthesiser."""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from ..errors import ConfigError
from ..files.archives import SUFFIXES
from ..files.download import local_path, shown


class Source(NamedTuple):
    """A dataset's source."""

    kind: str  # "url", "archive", "folder" or "synthetic"
    location: str  # URL or path; "" for a synthetic one
    name: str = ""  # file name of the archive


def locate(name: str, definition: Mapping[str, Any], allow_http: bool = False) -> Source:
    """The source that a dataset's definition names.

    Args:
        name: of the dataset, for messages.
        definition: the dataset's section of the config.

    Raises:
        ConfigError: no source, a URL that is not allowed, or a path that is not there.
    """
    if definition["layout"] == "synthetic":
        return Source("synthetic", "")
    key = f"config: datasets.{name}.source"
    location = definition.get("source")
    if location is None:
        raise ConfigError(f"{key} is missing: a URL, an archive or a folder")
    path = local_path(location)
    if path is None:
        if location.startswith("http://") and not allow_http:
            raise ConfigError(f"{key}: {shown(location)} is plain http; use https, or set `allow_http: true`")
        file = unquote(urlsplit(location).path.rpartition("/")[2])
        return Source("url", location, re.sub(r"[^A-Za-z0-9._-]", "_", file).lstrip(".") or "archive")
    if path.is_dir():
        return Source("folder", str(path))
    if not path.is_file():
        raise ConfigError(f"{key}: {path} does not exist{_suggest(path)}")
    if not path.name.lower().endswith(SUFFIXES):
        raise ConfigError(f"{key}: {path} is neither a folder nor an archive ({', '.join(SUFFIXES)})")
    return Source("archive", str(path), path.name)


def _suggest(path: Path) -> str:
    """What the misspelt part of a path may have been."""
    while not path.parent.is_dir():
        path = path.parent
    close = difflib.get_close_matches(path.name, [child.name for child in path.parent.iterdir()], n=1)
    return f"; did you mean {path.parent / close[0]}?" if close else f"; {path.parent} holds no {path.name}"
