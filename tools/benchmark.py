"""Measure time and memory on this machine: python tools/benchmark.py --help."""

import sys

from bayes_pfl.cli.main import run_app
from benchmarks.cli import app

if __name__ == "__main__":
    run_app(app, sys.argv[1:])
