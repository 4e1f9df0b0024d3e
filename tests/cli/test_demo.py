"""The demonstration, in its quick form, from rendering to the printed report."""

from __future__ import annotations

import csv

from bayes_pfl.cli.demo import _fresh, run_demo
from bayes_pfl.support.progress import NullProgress


def test_quick_demo_leaves_what_it_promises_and_another_run_alone(tmp_path):
    earlier = tmp_path / "demo" / "report.html"
    earlier.parent.mkdir()
    earlier.write_text("of an earlier run")
    report = run_demo(tmp_path / "demo", NullProgress(), quick=True)
    assert list(earlier.parent.iterdir()) == [earlier]
    out = tmp_path / "demo-2"
    assert "rendered categories it has never seen" in report and "photographs" in report
    assert str(out) in report
    rows = list(csv.DictReader((out / "predictions" / "predictions.csv").open()))
    assert len(rows) == 6 and not any(row["error"] for row in rows)
    assert len(list((out / "predictions" / "overlays").rglob("*.png"))) == 6


def test_a_folder_that_is_new_or_empty_is_taken(tmp_path):
    assert _fresh(tmp_path) == tmp_path and _fresh(tmp_path / "new") == tmp_path / "new"
