"""The version of the package: the only place, pyproject.toml reads it from here."""

__version__ = "0.1.0"
