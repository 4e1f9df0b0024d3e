"""Folders of small pictures, and predictions over them."""

import csv
from dataclasses import fields
from pathlib import Path

import numpy as np
from PIL import Image

from bayes_pfl.predict.folder import predict_folder
from bayes_pfl.predict.settings import FolderSettings


def rows_of(out, table="predictions.csv"):
    path = Path(out, table)
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def picture(index=0, size=(40, 30)):
    cells = np.random.default_rng(index).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


def save(folder, names, size=(40, 30)):
    for index, name in enumerate(names):
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(index, size).save(path, "PNG")
    return folder


def arguments(**options):
    """Arguments of a prediction: those that are fields of FolderSettings go into one object."""
    names = {item.name for item in fields(FolderSettings)} - {"class_name"}
    chosen = {name: options.pop(name) for name in names & options.keys()}
    return options | {"settings": FolderSettings(**chosen)}


def run(model, folder, out, **options):
    least = {"class_name": "metal nut", "maps": "none", "overlays": False, "report": False}
    return predict_folder(model, folder, out, **arguments(**least | options))


class Counting:
    """Progress that counts, and interrupts as a user would."""

    def __init__(self, stop=None):
        self.steps = self.done = 0
        self.stop = stop

    def start(self, title, steps):
        self.steps += steps

    def advance(self, done, values):
        self.done += done
        if self.done == self.stop:
            raise KeyboardInterrupt
