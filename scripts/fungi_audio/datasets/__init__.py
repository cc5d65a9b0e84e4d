"""Layouts of datasets: each reads its metadata into one `Listing`; `index` makes the clip table of it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import csv, esc50, speech_commands
from .layout import Listing

LAYOUTS: dict[str, Callable[[Path, Mapping[str, Any]], Listing]] = {
    "esc50": esc50.read,
    "speech_commands": speech_commands.read,
    "csv": csv.read,
    "synthetic": csv.read,
}
