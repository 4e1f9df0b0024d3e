"""Checks a dataset on this disk for missing, unreadable, mismatched and duplicate files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bayes_pfl.data.card_schema import Card
from bayes_pfl.data.cards import locate
from bayes_pfl.data.images import read_image, read_mask
from bayes_pfl.data.records import Sample, count_labels
from bayes_pfl.data.samples import doubts_of_picture, mask_and_doubts
from bayes_pfl.errors import DataError, ImageReadError
from bayes_pfl.support.checksums import file_sha256
from bayes_pfl.support.progress import NullProgress, Progress


@dataclass
class CheckReport:
    """What `check` found.

    Attributes:
        counts: (normal, anomalous) by category.
        misses: patterns of the card that match no image, with where they were looked for.
        differences: numbers of images that differ from the card's, one line each.
        unreadable: the message for each image or mask that cannot be read.
        missing_masks: anomalous images without a mask, if the card supports pixel results.
        wrong_sizes: masks whose size differs from their image's, one line each.
        empty_masks: masks of anomalous images in which nothing is marked.
        doubts: lines about files that can be read in several ways, by kind of doubt.
        remarks: files that are passed over, and other choices of `remarks.remarks`.
        duplicates: groups of image files with the same bytes.
    """

    dataset: str
    form: str
    path: Path
    split: str
    counts: dict[str, tuple[int, int]]
    misses: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    missing_masks: list[Path] = field(default_factory=list)
    wrong_sizes: list[str] = field(default_factory=list)
    empty_masks: list[Path] = field(default_factory=list)
    doubts: dict[str, list[str]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    duplicates: list[tuple[Path, ...]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there is no finding."""
        return not self.lines()

    def lines(self) -> list[str]:
        """Every finding as one line of text."""
        return [
            *self.misses,
            *self.differences,
            *self.unreadable,
            *(f"{path}: anomalous, but it has no mask" for path in self.missing_masks),
            *self.wrong_sizes,
            *(f"{path}: the mask of an anomalous image is empty" for path in self.empty_masks),
            *(f"{lines[0]} ({len(lines)} files)" for lines in self.doubts.values()),
            *self.remarks,
            *(f"the same picture: {', '.join(map(str, group))}" for group in self.duplicates),
        ]


def check(
    card: str | Path | Card,
    root: str | Path | None = None,
    split: str = "test",
    form: str = "auto",
    progress: Progress | None = None,
) -> CheckReport:
    """Open every image and mask of a split, and report what is wrong; nothing is changed.

    Args: those of `cards.read_dataset`, and:
        progress: shown as images are read.

    Raises:
        DataError: no dataset is found, or a card or listing cannot be used.
    """
    found = locate(card, root, form)
    card, samples = found.card, found.read(split)
    report = CheckReport(card.name, found.form, found.path, split, count_labels(samples))
    report.misses = found.misses(split)
    report.differences = found.differences(samples, split)
    report.remarks = found.remarks(samples)
    progress = progress or NullProgress()
    progress.start(f"check {card.name}", len(samples))
    for sample in samples:
        _check_sample(sample, "pixel" in card.supports, report)
        progress.advance(1, {})
    report.duplicates = duplicates(sample.path for sample in samples)
    return report


def duplicates(paths: Iterable[Path]) -> list[tuple[Path, ...]]:
    """Groups of files with the same content; a file whose size is unique is not read."""
    by_size: dict[int, list[Path]] = {}
    for path in dict.fromkeys(paths):
        if path.is_file():
            by_size.setdefault(path.stat().st_size, []).append(path)
    groups: dict[str, list[Path]] = {}
    for same in by_size.values():
        for path in same if len(same) > 1 else ():
            groups.setdefault(file_sha256(path), []).append(path)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _check_sample(sample: Sample, wants_mask: bool, report: CheckReport) -> None:
    image, doubts = None, dict[str, str]()
    try:
        image = read_image(sample.path)
        doubts = doubts_of_picture(sample, image)
    except DataError as error:
        report.unreadable.append(str(error))
    for kind, line in doubts.items() if sample.label == 0 or sample.mask is None else ():
        report.doubts.setdefault(kind, []).append(line)
    if sample.label == 0:
        return
    if sample.mask is None:
        report.missing_masks += [sample.path] if wants_mask else []
        return
    try:
        mask, doubts = mask_and_doubts(sample, image) if image else (read_mask(sample.mask), doubts)
    except DataError as error:
        unread = isinstance(error, ImageReadError)
        (report.unreadable if unread else report.wrong_sizes).append(str(error))
        return
    for kind, line in doubts.items():
        report.doubts.setdefault(kind, []).append(line)
    if not mask.any():
        report.empty_masks.append(sample.mask)
