"""Prints the tables of docs/robustness.md: `python -m tests.bad_input`."""

import sys

from tests.bad_input import sections, table

for title, cases in sections().items():
    sys.stdout.write(f"## {title}\n\n{table(cases)}\n\n")
