"""What the package logs: what is seen of it in Python, by the command line, by other processes."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys

from bayes_pfl.support.log import logged_to, receive_record, send_records

SCRIPT = """
import logging
import bayes_pfl
logger = logging.getLogger("bayes_pfl.some.room")
logger.info("a remark")
logger.warning("a warning")
"""


def test_who_sets_nothing_up_sees_warnings_alone():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "a warning\n")


def test_lines_are_those_of_the_package_and_warnings_of_others():
    lines, own = [], logging.getLogger("bayes_pfl.some.room")
    level = logging.getLogger("bayes_pfl").level
    with logged_to(lines.append):
        own.info("epoch %d", 3)
        own.debug("nothing")
        own.warning("odd")
        logging.getLogger("another.library").info("nothing")
        logging.getLogger("another.library").warning("theirs")
    own.warning("after the end")
    assert lines == ["epoch 3", "WARNING: odd", "WARNING: theirs"]
    assert logging.getLogger("bayes_pfl").level == level


def test_records_of_another_process_are_logged_here_once(monkeypatch):
    package, sent, lines = logging.getLogger("bayes_pfl"), [], []
    monkeypatch.setattr(package, "handlers", [])
    monkeypatch.setattr(package, "level", package.level)
    monkeypatch.setattr(package, "propagate", True)
    send_records(lambda record: sent.append(pickle.dumps(record)))
    logging.getLogger("bayes_pfl.train").info("loss %.1f", 0.25)
    package.handlers.clear()
    package.propagate = True
    (record,) = map(pickle.loads, sent)
    with logged_to(lines.append):
        receive_record(record)
    with logged_to(lines.append, logging.WARNING):
        receive_record(record)
    assert lines == ["loss 0.2"]
