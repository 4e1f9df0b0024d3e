"""What each process of ``torchrun`` does in a test of training: REQUEST.pickle LOSSES.json."""

import json
import os
import pickle
import sys
from pathlib import Path

from bayes_pfl.train.run import run_training


class Losses:
    """Progress that keeps the losses of every step."""

    def __init__(self):
        self.found = []

    def start(self, title, steps):
        pass

    def advance(self, done, values):
        if values:
            self.found.append(values)


if __name__ == "__main__":
    losses = Losses()
    state = run_training(pickle.loads(Path(sys.argv[1]).read_bytes()), losses)
    if os.environ["RANK"] == "0":
        answer = {"losses": losses.found, "processes": int(os.environ["WORLD_SIZE"])}
        answer |= {"history": state.history, "map_range": state.map_range}
        Path(sys.argv[2]).write_text(json.dumps(answer))
