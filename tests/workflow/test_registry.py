"""Registered names and the modules behind them."""

import pytest

from fungi_audio.errors import ConfigError
from fungi_audio.registry import REGISTRY, module


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in REGISTRY.items() for name in names])
def test_every_name_has_its_module(kind: str, name: str) -> None:
    needed = {"layout": "read", "family": "read", "pretext": "read", "objective": "build", "definition": "check"}
    assert callable(getattr(module(kind, name), needed[kind]))


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="no objective 'klx'; allowed: embedding, kl, simclr"):
        module("objective", "klx")
