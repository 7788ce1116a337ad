"""What the tests share."""

from pathlib import Path

import pytest

_REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference"


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of reference vectors that the original network computed."""
    if not (_REFERENCE / "README.json").is_file():
        pytest.skip(f"the reference vectors are not at {_REFERENCE}")
    return _REFERENCE
