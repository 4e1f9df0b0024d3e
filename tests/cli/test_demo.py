"""The demonstration, in its quick form, from rendering to the printed report."""

from __future__ import annotations

import csv

from bayes_pfl.cli.demo import run_demo
from bayes_pfl.support.progress import NullProgress


def test_quick_demo_leaves_what_it_promises(tmp_path):
    report = run_demo(tmp_path / "demo", NullProgress(), quick=True)
    out = tmp_path / "demo"
    assert "rendered categories it has never seen" in report and "photographs" in report
    rows = list(csv.DictReader((out / "predictions" / "predictions.csv").open()))
    assert len(rows) == 6 and not any(row["error"] for row in rows)
    assert len(list((out / "predictions" / "overlays").rglob("*.png"))) == 6
    again = run_demo(tmp_path / "demo", NullProgress(), quick=True)
    assert "demo-2" in again and (tmp_path / "demo-2").is_dir()
