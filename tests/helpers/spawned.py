"""What new processes run in tests of :mod:`bayes_pfl.train.spawning`; they import it by name.

So a function imports what it alone needs: each of the processes takes seconds for all of it.
"""

from __future__ import annotations

import os
import signal
import time

from bayes_pfl.errors import DataError

LONG = 600


def rank() -> int:
    return int(os.environ["RANK"])


def count_to(number, progress):
    """Tell the progress, and what this process is one of."""
    progress.start(f"process {rank()}", number)
    for _ in range(number):
        progress.advance(1, {"total": rank()})
    return rank(), os.environ["WORLD_SIZE"], os.environ["LOCAL_WORLD_SIZE"]


def fail_in_second(_, progress):
    """The first process waits for the second, which has an error."""
    if rank():
        raise DataError("part.png: torn")
    time.sleep(LONG)


def killed_in_second(_, progress):
    """As above, but the second process cannot tell why it ends."""
    if rank():
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(LONG)


def wait(_, progress):
    """Both processes say that they have begun, and wait."""
    progress.start("begun", 1)
    time.sleep(LONG)


def evaluate_with(model, requests, _):
    """What ``torchrun`` would run: several evaluations, one after the other, as one of a team."""
    import torch

    from bayes_pfl.evaluate.parallel import join_team
    from bayes_pfl.evaluate.run import run_benchmark
    from bayes_pfl.support.processes import close_process_group

    os.environ["TORCHELASTIC_RUN_ID"] = "test"
    torch.set_num_threads(1)
    join_team()
    outcomes = [run_benchmark(request, load=lambda _: model) for request in requests]
    torch.distributed.barrier()  # the first process holds the connection of all
    close_process_group()
    return [outcome.reports for outcome in outcomes]
