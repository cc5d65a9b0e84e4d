"""The names that a configuration chooses from, and the module behind each.

A new dataset layout or objective is one new file and one line here, a family one folder and two lines. The schema
refers to these tables (`registered: layout`), so that a name is known before a job starts; a module loads on first
use.
"""

from importlib import import_module
from types import ModuleType

from .errors import ConfigError

REGISTRY = {
    "layout": {
        "esc50": "datasets.esc50",
        "speech_commands": "datasets.speech_commands",
        "csv": "datasets.csv",
        "synthetic": "datasets.csv",  # the synthesiser writes this layout
        "folder": "datasets.folder",
    },
    "definition": {
        "ssast": "models.ssast.definition",
        "atst": "models.atst.definition",
        "huggingface": "models.huggingface.definition",
    },
    "family": {
        "ssast": "models.ssast.network",
        "atst": "models.atst.network",
        "huggingface": "models.huggingface.network",
    },
    "pretext": {
        "ssast": "models.ssast.pretext",
    },
    "objective": {
        "embedding": "objectives.embedding",
        "kl": "objectives.kl",
        "simclr": "objectives.simclr",
        "mpc": "objectives.mpc",
        "mpg": "objectives.mpg",
    },
}


def module(kind: str, name: str) -> ModuleType:
    """The module behind a registered name.

    Args:
        kind: layout, definition (of a family, without torch), family, pretext or objective.

    Raises:
        ConfigError: no such name.
    """
    if name not in REGISTRY[kind]:
        raise ConfigError(f"there is no {kind} {name!r}; allowed: {', '.join(REGISTRY[kind])}")
    return import_module(f".{REGISTRY[kind][name]}", __package__)
