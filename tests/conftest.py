"""Fixtures that several tests share."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference material beside a development checkout; a user's clone has none."""
    if not SHARED.is_dir():
        pytest.skip("the reference data in ../shared is not part of a clone")
    return SHARED
