"""Check the metrics against recorded figures: python tools/verify_metrics.py DIR [--json OUT].

DIR holds metrics.npz and metrics.json. Prints each difference; the exit code is 1 if one is over
its bound (1e-3 in binned mode, 1e-6 in exact mode, 2e-3 for AUPRO), 2 if DIR cannot be used.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bayes_pfl.errors import BayesPFLError
from bayes_pfl.verification.metrics import checks_report, verify_metrics


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every check there")
    options = parser.parse_args(arguments)
    try:
        checks = verify_metrics(options.folder)
    except BayesPFLError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    report = checks_report(checks)
    print(*checks, sep="\n")
    print(f"{len(checks)} checks, {sum(not check.passed for check in checks)} failed")
    if options.json:
        part = options.json.with_name(options.json.name + ".part")
        part.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        os.replace(part, options.json)
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
