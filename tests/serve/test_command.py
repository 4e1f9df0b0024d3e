"""The command, in a process of its own: what it serves, and how it ends."""

import os
import signal
import sys
import threading

import pytest

from bayes_pfl.support.ports import bound_socket
from tests.helpers.commands import command
from tests.helpers.folders import picture
from tests.helpers.killing import ended, started
from tests.serve.client import Served, await_


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_answers(checkpoint_dir, tmp_path, number, capfd):
    picture(1).save(tmp_path / "a.png")
    body = (tmp_path / "a.png").read_bytes()
    with bound_socket("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    served = Served(f"http://127.0.0.1:{port}", None, None)
    given = ("serve", checkpoint_dir, "--class-name", "nut", "--device", "cpu", "--port", port)
    process = started(lambda: sys.exit(command(*given, "--batch-wait", 1)))
    try:
        await_(lambda: is_ready(served))
        answers = []
        asking = threading.Thread(target=lambda: answers.append(served.post(body)))
        asking.start()
        figures = b"bayes_pfl_requests_open 1.0"
        await_(lambda: answers or figures in served.send("GET", "/metrics").body)
        os.kill(process, number)
        asking.join(30)
        assert [one.status for one in answers] == [200]
        code, process = ended(process), None
        assert code == 0
    finally:
        if process is not None:
            os.kill(process, signal.SIGKILL)
            ended(process)
    captured = capfd.readouterr()
    assert f"http://127.0.0.1:{port}/docs" in captured.out and "Traceback" not in captured.err


def is_ready(served):
    """Whether the service answers with 200."""
    try:
        return served.send("GET", "/health").status == 200
    except OSError:
        return False
