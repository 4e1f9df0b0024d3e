"""Runs the command line as a user does: arguments in, exit code out."""

from __future__ import annotations

import sys

import pytest

from bayes_pfl.cli import main


def command(*arguments: object) -> int:
    """Exit code of ``bayes-pfl ARGUMENTS``."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(sys, "argv", ["bayes-pfl", *map(str, arguments)])
        main()
    return int(stopped.value.code or 0)
