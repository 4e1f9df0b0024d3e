"""The demonstration at a size of seconds, on the tiny model; `make demo` runs the whole one."""

from __future__ import annotations

import csv

from bayes_pfl.cli import demo
from bayes_pfl.cli.demo import DemoSize, _fresh, run_demo
from bayes_pfl.support.progress import NullProgress

SMALL = DemoSize(2, 1, 1, steps=1, epochs=1, batch=2, photographs=6, sound=2)


def test_demo_leaves_what_it_promises_and_another_run_alone(
    checkpoint_dir, clip_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr(demo, "QUICK", SMALL)
    monkeypatch.setattr(demo, "DEFAULT_CHECKPOINT", str(checkpoint_dir))
    monkeypatch.setattr(demo, "EMBEDDED_BACKBONE", f"local-dir:{clip_dir}")
    earlier = tmp_path / "demo" / "report.html"
    earlier.parent.mkdir()
    earlier.write_text("of an earlier run")
    report = run_demo(tmp_path / "demo", NullProgress(), quick=True)
    assert list(earlier.parent.iterdir()) == [earlier]
    out = tmp_path / "demo-2"
    assert "rendered categories it has never seen" in report and "photographs" in report
    assert str(out) in report
    rows = list(csv.DictReader((out / "predictions" / "predictions.csv").open()))
    assert len(rows) == 4 and not any(row["error"] for row in rows)
    assert {row["compared_with"] for row in rows} == {"profile of 2 pictures"}
    assert len(list((out / "predictions" / "overlays").rglob("*.png"))) == 4
    assert "by words alone" in report and (out / "profile" / "config.json").is_file()


def test_a_folder_that_is_new_or_empty_is_taken(tmp_path):
    assert _fresh(tmp_path) == tmp_path and _fresh(tmp_path / "new") == tmp_path / "new"
