"""What the tests of faults share: the marks of their large counts."""

import pytest

MANY = (pytest.mark.faults, pytest.mark.nightly)
"""Of a large count: run by `pytest -m faults`, and by night."""
