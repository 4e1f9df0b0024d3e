"""Folders to score, progress that stops a run, and a model that has changed since."""

from __future__ import annotations

import json
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image

JOURNAL = "predictions.journal.jsonl"


def save(folder, count, side=24):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        values = np.random.default_rng(index).integers(0, 255, (side, side, 3), np.uint8)
        Image.fromarray(values).save(folder / f"{index:02d}.png")
    return folder


class Stop:
    """Progress that acts when so many images are done; by default as Ctrl-C does."""

    def __init__(self, count, act=None):
        self.left, self.act = count, act

    def start(self, title, steps):
        pass

    def advance(self, done, values):
        self.left -= done
        if self.left == 0:
            if self.act is None:
                raise KeyboardInterrupt
            self.act()


@contextmanager
def other_weights(model):
    """Within, one weight of the model is another."""
    weight = model.log_scale_image
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.add_(1e-3)
        try:
            yield
        finally:
            weight.copy_(kept)


def entries(out):
    """What the journal of a run holds of its images."""
    lines = [json.loads(line) for line in (out / JOURNAL).read_text().splitlines()]
    return [line for line in lines if "path" in line]
