"""Signs of life in a file: a line every 30 seconds with what is done, the rate, the time left."""

import logging
import threading

import pytest

from bayes_pfl.cli import options
from bayes_pfl.support.log import logged_to
from bayes_pfl.support.progress import Bars, Lines, NullProgress


class Clock:
    """Seconds that a test sets."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def told():
    """The lines that came, the clock, and what a job calls."""
    lines, clock = [], Clock()
    with Lines(lines.append, every=1e6, clock=clock) as progress:
        yield lines, clock, progress


def after(clock, seconds, progress, *steps):
    clock.now += seconds
    for done in steps:
        progress.advance(done, {})
    progress.report()


def test_a_line_says_done_of_all_rate_and_time_left(told):
    lines, clock, progress = told
    progress.start("prediction", 4000)
    after(clock, 30, progress, 8, 52)
    after(clock, 30, progress, 20)
    assert lines == [
        "prediction: 60 of 4,000, 2 a second, 0:32:50 left",
        "prediction: 80 of 4,000, 1.33 a second, 0:49:00 left",
    ]


def test_slow_steps_and_a_step_that_takes_longer_than_a_line(told):
    lines, clock, progress = told
    progress.start("stage 1, epoch 1 of 2", 10)
    after(clock, 30, progress)
    clock.now += 10
    progress.advance(1, {"total": 0.25, "flow": 9.0})
    after(clock, 20, progress)
    after(clock, 30, progress)
    assert lines == [
        "stage 1, epoch 1 of 2: 0 of 10, no step for 0:00:30",
        "stage 1, epoch 1 of 2: 1 of 10, 60 s each, 0:09:00 left, total 0.250",
        "stage 1, epoch 1 of 2: 1 of 10, no step for 0:00:50, total 0.250",
    ]


def test_what_a_stopped_run_had_done_counts_in_no_rate(told):
    lines, clock, progress = told
    progress.start("prediction", 1000)
    progress.advance(900, {})
    after(clock, 30, progress, 30)
    assert lines == ["prediction: 930 of 1,000, 1 a second, 0:01:10 left"]


def test_the_rate_is_that_of_the_last_minutes(told):
    lines, clock, progress = told
    progress.start("fit", 10_000)
    after(clock, 30, progress, 3000)
    for _ in range(10):
        after(clock, 30, progress, 30)
    assert lines[-1] == "fit: 3,300 of 10,000, 1 a second, 1:51:40 left"


def test_lines_come_by_themselves_and_end_with_the_job():
    came, lines = threading.Event(), []
    with Lines(lambda line: (lines.append(line), came.set()), every=0.01) as progress:
        progress.start("fit", 3)
        assert came.wait(60)
    count = len(lines)
    assert lines[0].startswith("fit: 0 of 3")
    threading.Event().wait(0.05)
    assert len(lines) == count


@pytest.mark.parametrize(("terminal", "kind"), [(True, Bars), (False, Lines)])
def test_bars_are_for_terminals(monkeypatch, terminal, kind):
    monkeypatch.setattr(options.errors, "_force_terminal", terminal)
    with logged_to(print):
        assert isinstance(options.bars(), kind)
    with logged_to(print, logging.WARNING), options.bars() as silent:
        assert isinstance(silent, NullProgress)
