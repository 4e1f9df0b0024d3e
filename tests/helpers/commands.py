"""Runs the command line as a user does, arguments in, exit code out; and loads scripts."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

import pytest

from bayes_pfl.cli.main import main, run_app
from tests.helpers.paths import ROOT

TOOLS = {
    "benchmark": "benchmarks.cli",
    "verify-metrics": "verify_metrics",
    "verify-parity": "verify_parity",
}


def command(*arguments: object) -> int:
    """Exit code of ``bayes-pfl ARGUMENTS``, or of the maintainers' tool that they begin with."""
    name, *rest = map(str, arguments)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
        if name in TOOLS:
            run_app(import_module(TOOLS[name]).app, rest)
        patch.setattr(sys, "argv", ["bayes-pfl", name, *rest])
        main()
    return int(stopped.value.code or 0)


def load_script(name: str) -> ModuleType:
    """A Python file that is in no package, by its path in the repository, as a module."""
    path = ROOT / name
    spec = spec_from_file_location(f"script_{path.stem}", path)
    module = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:  # its dataclasses look for their module there
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
    return module
