"""Make the check of types known before the package is imported, whichever tests are asked for."""

from tests import checking  # noqa: F401 - named in pyproject.toml
