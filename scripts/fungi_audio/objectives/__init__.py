"""Objectives by name. A new objective is one file with `build` and one line here."""

from importlib import import_module
from typing import Any

OBJECTIVES = {"embedding": "embedding", "kl": "kl", "simclr": "simclr"}


def build_objective(objective: str, **options: Any) -> Any:
    """The objective of a feature definition: its settings, and the `head` and `comparison` it asks for."""
    return import_module(f".{OBJECTIVES[objective]}", __name__).build(**options)
