"""Objectives by name; each module has `build`."""

import inspect
from typing import Any

from .. import registry
from ..errors import ConfigError


def build_objective(objective: str, **options: Any) -> Any:
    """The objective of a feature definition: its settings, and the `head` and `comparison` it asks for.

    Raises:
        ConfigError: no such objective, or it has no such setting.
    """
    known = takes(objective)
    try:
        known.bind(**options)
    except TypeError as error:
        allowed = ", ".join(known.parameters)
        raise ConfigError(f"objective {objective}: {error}; it takes {allowed or 'no settings'}") from error
    return registry.module("objective", objective).build(**options)


def takes(objective: str) -> inspect.Signature:
    """The settings and artifacts (`head`, `comparison`) of an objective."""
    return inspect.signature(registry.module("objective", objective).build)
