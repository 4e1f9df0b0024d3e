"""What of a folder has been done before: the journal of a prediction against the files of today."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bayes_pfl.checkpoints.fingerprint import fingerprint
from bayes_pfl.errors import ConfigError
from bayes_pfl.fit.decision import Decision
from bayes_pfl.model.network import BayesPFLNetwork
from bayes_pfl.predict.inputs import InputImages
from bayes_pfl.predict.rows import row_of
from bayes_pfl.predict.settings import FolderSettings
from bayes_pfl.support.journal import Journal, is_end
from bayes_pfl.support.run_names import page_file
from bayes_pfl.support.version import __version__

_FREE = ("batch_size", "workers", "compile")
"""Settings that may change when a run is resumed: they change no result beyond its last digits."""

RESTART = "start again with --overwrite or another --out"
CHANGED, RENAMED = "have changed since", "have another class name than when"


def run_header(
    model: BayesPFLNetwork,
    folder: str,
    settings: FolderSettings,
    rule: Decision,
    mutual: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """All that shapes the results of a run: those of a run that is resumed must be the same.

    Args:
        folder: the same for every way to write it.
        mutual: which pictures of the folder the others are compared with.
    """
    fixed = {name: value for name, value in settings.as_dict().items() if name not in _FREE}
    fixed["roi"] = settings.interest.identity if settings.interest else None
    digest = None
    if rule.calibration:
        text = json.dumps(asdict(rule.calibration), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()
    compared: dict[str, Any] = {"profile_sha256": rule.profile.sha256} if rule.profile else {}
    compared |= {"mutual": mutual} if mutual else {}
    return compared | {
        "version": __version__,
        "folder": folder,
        "checkpoint_sha256": fingerprint(model),
        "device": model.device.type,
        "settings": fixed,
        "calibration_sha256": digest,
    }


def refuse_images(place: Path | str, what: str, paths: Sequence[str]) -> None:
    """Raise ConfigError where there are such images, naming one.

    Args:
        place: where the run is kept.
    """
    if paths:
        raise ConfigError(
            f"{place}: {len(paths)} images {what} they were scored, such as {paths[0]!r}; "
            f"restore them, or {RESTART}"
        )


class Ledger:
    """Where in the journal the row of each image stands.

    Attributes:
        places: byte offset of each image's row, int64 (n,); -1 if it has none.
        good: whether each image is done, bool (n,).
        gone: entries of images that were done and do not exist any more.
        finished: whether the run came to its end.
    """

    def __init__(self, inputs: InputImages) -> None:
        self.inputs = inputs
        self.places = np.full(len(inputs), -1, np.int64)
        self.good = np.zeros(len(inputs), bool)
        self.gone: list[dict[str, Any]] = []
        self.finished = False

    def read(self, journal: Journal, whole: Callable[[str], bool]) -> None:
        """Read which images are done.

        Args:
            whole: whether the pictures of a `Row.file` are there; without them it is done again.

        Raises:
            ConfigError: an image that is done has changed, or has another class name; a damaged
                line.
        """
        where = {self.inputs.key(index): index for index in range(len(self.inputs))}
        stamps = np.zeros_like(self.inputs.stamps)
        gone: set[tuple[str, int | None]] = set()
        renamed: list[str] = []
        for block in journal.blocks():
            for place, entry in block:
                self.finished = is_end(entry)
                if self.finished:
                    continue
                try:
                    row = row_of(entry)
                except (TypeError, ValueError) as error:
                    raise journal.damaged(f"an entry ({error})") from error
                index = where.get((row.path, row.page))
                if index is None:
                    gone.add((row.path, row.page))
                    continue
                self.places[index], self.good[index] = place, not row.error
                stamps[index] = entry.get("size", -1), entry.get("mtime_ns", 0)
                if not row.error and row.class_name != self.inputs.names[index]:
                    renamed.append(row.title)
        self.gone = [{"path": path, "page": page} for path, page in gone]
        differ = self.good & (stamps != self.inputs.stamps).any(axis=1)
        changed = [self.inputs.title(index) for index in np.flatnonzero(differ).tolist()]
        refuse_images(journal.path, CHANGED, changed)
        refuse_images(journal.path, RENAMED, renamed)
        for key, index in where.items():
            self.good[index] = self.good[index] and whole(page_file(*key))

    @property
    def retried(self) -> list[int]:
        """Images with an error, or whose pictures are missing."""
        return np.flatnonzero((self.places >= 0) & ~self.good).tolist()

    @property
    def waiting(self) -> list[int]:
        """Images that have not been looked at."""
        return np.flatnonzero(self.places < 0).tolist()
