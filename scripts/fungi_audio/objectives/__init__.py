"""Objectives by name; each module has `build`."""

from typing import Any

from .. import registry


def build_objective(objective: str, **options: Any) -> Any:
    """The objective of a feature definition: its settings, and the `head` and `comparison` it asks for.

    Raises:
        ConfigError: no such objective.
    """
    return registry.module("objective", objective).build(**options)
