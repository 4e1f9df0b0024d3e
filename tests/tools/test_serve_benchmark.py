"""What `tools/benchmark.py serve` reports."""

import json

import pytest

from tests.helpers.commands import command


@pytest.mark.slow
def test_it_compares_each_answer_and_survives_what_is_malformed(checkpoint_dir, tmp_path):
    out = tmp_path / "report.json"
    options = ("--pictures", 4, "--normal", 20, "--clients", "2", "--samples", 0)
    assert (
        command("benchmark", "serve", "--checkpoint", checkpoint_dir, *options, "--json", out) == 0
    )
    report = json.loads(out.read_text())
    assert [row["clients"] for row in report["rounds"]] == [2, 8]
    for row in report["rounds"]:
        assert row["statuses"] == {"200": 4} and not row["wrong"]
        assert row["largest_difference"] < 1e-4 and row["images_per_second"] > 0
        assert 0 < row["p50_seconds"] <= row["p95_seconds"] and row["pictures_per_batch"] >= 1
    assert report["survived"] and report["malformed"]["1e9 pixels declared"] == 422
