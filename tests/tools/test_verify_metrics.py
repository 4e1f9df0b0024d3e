"""tools/verify_metrics.py: the recorded figures hold, and it reports those that do not."""

import json
import shutil

import numpy as np
import pytest

from parity.metrics import verify_metrics
from tests.helpers.commands import command
from tests.helpers.paths import PARITY


@pytest.fixture
def folder(tmp_path):
    for name in ("metrics.npz", "metrics.json"):
        shutil.copy(PARITY / name, tmp_path)
    return tmp_path


def change(folder, section, figure, value):
    path = folder / "metrics.json"
    recorded = json.loads(path.read_text())
    recorded.setdefault(section, {})[figure] = value
    path.write_text(json.dumps(recorded))


def test_every_recorded_figure_holds_in_both_modes(tmp_path, capsys):
    out = tmp_path / "checks.json"
    assert command("verify-metrics", PARITY, "--json", out) == 0
    report = json.loads(out.read_text())
    assert report["passed"]
    assert {row["mode"] for row in report["checks"]} == {"binned", "exact", "smoothing"}
    recorded = json.loads((PARITY / "metrics.json").read_text())
    for section in recorded:
        assert any(row["section"] == section for row in report["checks"])
    printed = capsys.readouterr().out
    assert "pixel_smoothed_sigma4.aupro_fpr0_3" in printed
    assert "0 failed" in printed


@pytest.mark.parametrize(
    ("section", "figure", "value"),
    [
        ("pixel_raw", "auroc", 0.9439308),
        ("pixel_raw", "iou_at_f1_max", 0.3218),
        ("pixel_raw", "f1_max_threshold", 0.4),
        ("image_text_only", "ap", None),
        ("image_text_only", "brier", 0.1),
        ("pixel_raw", "aupro_fpr0_1", 0.9),
        ("pixel_blurred", "auroc", 0.9),
    ],
)
def test_a_figure_that_does_not_hold_fails(folder, capsys, section, figure, value):
    change(folder, section, figure, value)
    assert command("verify-metrics", folder) == 1
    failed = [row for row in capsys.readouterr().out.splitlines() if row.startswith("FAIL")]
    assert failed
    assert all(section in row for row in failed)


def test_another_threshold_of_the_same_f1_passes_with_a_note(folder):
    arrays = dict(np.load(PARITY / "metrics.npz"))
    arrays["text_scores"] = np.array([5, 4, 3, 2, 1, 0, 0, 0, 0, 0], np.float32)
    arrays["labels"] = np.array([1, 0, 0, 1, 0, 0, 0, 0, 0, 0])  # F1 2/3 at 5, and 2/3 at 2
    np.savez(folder / "metrics.npz", **arrays)
    figures = {"f1_max": 2 / 3, "f1_max_threshold": 5.0}
    (folder / "metrics.json").write_text(json.dumps({"image_text_only": figures}))
    checks = verify_metrics(folder)
    assert all(check.passed for check in checks)
    assert any("ours is 2, at another threshold" in check.note for check in checks)


@pytest.mark.parametrize("missing", ["metrics.npz", "metrics.json"])
def test_a_missing_file_is_one_line_and_exit_code_2(folder, capsys, missing):
    (folder / missing).unlink()
    assert command("verify-metrics", folder) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert missing in error


@pytest.mark.parametrize("content", ["{", "[]", '{"pixel_raw": 3}'])
def test_a_damaged_file_is_refused(folder, capsys, content):
    (folder / "metrics.json").write_text(content)
    assert command("verify-metrics", folder) == 2
    assert "metrics.json" in capsys.readouterr().err
