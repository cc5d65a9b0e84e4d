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
    build = registry.module("objective", objective).build
    try:
        inspect.signature(build).bind(**options)
    except TypeError as error:
        allowed = ", ".join(inspect.signature(build).parameters)
        raise ConfigError(f"objective {objective}: {error}; it takes {allowed or 'no settings'}") from error
    return build(**options)
