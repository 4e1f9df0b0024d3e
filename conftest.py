"""Takes away what the user's machine could change about a test, before anything is imported.

A test that needs one of these settings makes it itself. One thing cannot be set here: file names
are UTF-8 only if Python was started that way, so the run ends where it was not.
"""

from __future__ import annotations

import contextlib
import importlib.util
import locale
import os
import random
import sys
import tempfile
import time

import pytest

# These say what is missing when they are imported without their extra.
_OF_EXTRAS = {"ray": "bayes_pfl/predict/ray/*", "anomalib": "bayes_pfl/integrations/anomalib/*"}
collect_ignore_glob = [
    path for name, path in _OF_EXTRAS.items() if not importlib.util.find_spec(name)
]

# Settings of users, clusters, containers and terminals that libraries underneath read.
_TAKEN_AWAY = (
    *("HF_", "HUGGING", "TRANSFORMERS_", "TORCH_HOME", "XDG_", "MPL", "MATPLOTLIBRC", "GIT_"),
    *("AWS_", "FSSPEC_", "GOOGLE_", "AZURE_", "GRADIO_", "RAY_", "NO_ALBUMENTATIONS"),
    *("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE", "GROUP_RANK", "ROLE_", "MASTER_"),
    *("TORCHELASTIC_", "SLURM_", "PMI_", "OMPI_"),
    *("PYTHONWARNINGS", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONCOERCECLOCALE"),
    "BAYES_PFL_TOKEN",
    "PYTHONDONTWRITEBYTECODE",  # every process of a test would compile the package again
    *("LC_", "LANG", "FORCE_COLOR", "CLICOLOR", "COLORTERM", "TTY_", "LINES", "_TYPER_"),
)
_KEPT = ("RAY_TMPDIR", "XDG_RUNTIME_DIR")

_SET = {
    "COLUMNS": "80",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "MPLBACKEND": "agg",
    "TZ": "UTC",
}
_HOME = "BAYES_PFL_TEST_HOME"  # what it holds is shared with the processes of pytest-xdist

# Each process of pytest-xdist has one core. Two that compute with all cores wait for each other.
_SET_IN_WORKERS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _isolate() -> tempfile.TemporaryDirectory[str] | None:
    """Changes the environment of this process; the empty home is for the caller to remove."""
    for name in list(os.environ):
        if name.startswith(_TAKEN_AWAY) and name not in _KEPT or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update(_SET)
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.update(_SET_IN_WORKERS)
    home = None
    if _HOME not in os.environ:
        home = tempfile.TemporaryDirectory(prefix="bayes-pfl-home-", ignore_cleanup_errors=True)
        os.environ[_HOME] = home.name
    os.environ["HOME"] = os.environ[_HOME]  # no token, no cache, no settings
    if hasattr(time, "tzset"):
        time.tzset()
    with contextlib.suppress(locale.Error):  # a system without it
        locale.setlocale(locale.LC_ALL, "C.UTF-8")
    os.umask(0o022)
    return home


_home = _isolate()


def pytest_configure(config):
    if sys.getfilesystemencoding().lower() not in ("utf-8", "utf8"):
        pytest.exit("file names are not UTF-8 here: set PYTHONUTF8=1 and run again", 2)
    from hypothesis import settings

    # The same examples in each run, however slow or loaded the machine is.
    settings.register_profile("same", derandomize=True, database=None, deadline=None)
    settings.load_profile("same")


def pytest_sessionstart(session):
    """What comes after pytest has chosen its own colours, and before its processes start."""
    os.environ.update({"NO_COLOR": "1", "TERM": "dumb"})
    if _home is not None:
        import matplotlib.font_manager  # noqa: F401  lists the fonts now, and not during a test


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """No test depends on those before it: the global random states begin anew."""
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def pytest_unconfigure(config):
    if _home is not None:
        _home.cleanup()
