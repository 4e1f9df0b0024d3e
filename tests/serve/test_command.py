"""The command: what it serves, and how it ends."""

import os
import subprocess
import sys
import threading

from tests.helpers.folders import picture
from tests.helpers.paths import ROOT
from tests.serve.client import Served, await_


def test_a_signal_ends_it_after_the_answers(checkpoint_dir, tmp_path):
    picture(1).save(tmp_path / "a.png")
    body = (tmp_path / "a.png").read_bytes()
    given = ("serve", str(checkpoint_dir), "--class-name", "nut", "--port", "0", "--device", "cpu")
    running = subprocess.Popen(
        [sys.executable, "-m", "bayes_pfl.cli.main", *given, "--batch-wait", "0.9"],
        stdout=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        text=True,
    )
    try:
        served = Served(running.stdout.readline().split("/docs")[0], None, None)
        answers = []
        asking = threading.Thread(target=lambda: answers.append(served.post(body)))
        asking.start()
        figures = b"bayes_pfl_requests_open 1.0"
        await_(lambda: answers or figures in served.send("GET", "/metrics").body)
        running.terminate()
        assert running.wait(60) == 0
        asking.join(10)
        assert [one.status for one in answers] == [200]
    finally:
        running.kill()
        running.wait()
