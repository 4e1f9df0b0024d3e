"""What `tools/benchmark.py export` reports."""

import json

from tests.helpers.commands import command

RUNTIMES = ("onnxruntime float32", "openvino float32")


def test_it_reports_differences_and_speed_of_each_runtime(checkpoint_dir, tmp_path):
    out = tmp_path / "report.json"
    options = ("--files", 2, "--compared", 2, "--repeats", 1, "--samples", 0)
    given = ("--checkpoint", checkpoint_dir, *options, "--json", out)
    assert command("benchmark", "export", *given) == 0
    report = json.loads(out.read_text())
    assert set(report["differences"]) == set(RUNTIMES)
    for found in report["differences"].values():
        assert found["score"] <= 1e-4 and found["map"] <= 1e-4
    speeds = report["images_per_second"]
    assert set(speeds) == {"pytorch", *RUNTIMES} and min(speeds.values()) > 0
