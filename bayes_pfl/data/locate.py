"""Finds where a dataset is below the user's data folder, and in which form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bayes_pfl.data.card_schema import Card, Counts, Layout
from bayes_pfl.data.layouts import fits
from bayes_pfl.errors import DataError

FORMS = ("auto", "standardised", "distributed")


@dataclass(frozen=True)
class Found:
    """One form of a dataset on this disk.

    Attributes:
        form: "standardised" or "distributed".
        path: the meta.json, or the folder of the distributed files.
        layout: the layout of the card that fits; None for the standardised form.
    """

    form: str
    path: Path
    layout: Layout | None = None

    def expected(self, card: Card, split: str) -> Counts | None:
        """The (normal, anomalous) images of this form by the card; None if it does not say."""
        counts = card.standardised if self.layout is None else self.layout.counts
        expected: Counts | None = getattr(counts, split)
        return expected


def locate(card: Card, root: str | Path, form: str = "auto", *, own_folder: bool = False) -> Found:
    """Find a dataset below a root: its standardised form first, then as its makers distribute it.

    Looked for, with each name that the card gives its folder: ROOT/meta_<name>.json,
    ROOT/<name>/meta.json, ROOT/<name>/meta_<name>.json, the files in ROOT/<name>; then the same
    in ROOT itself.

    Args:
        form: "auto", "standardised" or "distributed".
        own_folder: accept ROOT itself only if it has the dataset's name, so that no set is found
            in the folder of another one with a similar layout.

    Raises:
        DataError: an unknown form, no such root, or no dataset there.
    """
    root = Path(root)
    if form not in FORMS:
        raise DataError(f"form is {form!r}; allowed are {', '.join(FORMS)}")
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the folder that holds the datasets")
    names = [name.casefold() for name in dict.fromkeys((card.name, *card.folders))]
    places = _places(card, root, names, own_folder)
    if form != "distributed" and (meta := _find_meta(root, names, places)):
        return Found("standardised", meta)
    if form != "standardised":
        for place in places:
            for layout in card.layouts:
                if fits(card, layout, place):
                    return Found("distributed", place, layout)
    raise DataError(
        f"{card.name} was not found in {root}: looked for {root}/meta_{card.name}.json, "
        f"{root}/{card.name}/meta.json and the layouts "
        f"{', '.join(repr(layout.name) for layout in card.layouts)} in {root}/{card.name}"
    )


def _places(card: Card, root: Path, names: list[str], own_folder: bool) -> list[Path]:
    folders = {p.name.casefold(): p for p in sorted(root.iterdir()) if p.is_dir()}
    nested = (root / name for name in card.folders if "/" in name)
    found = [folders[name] for name in names if name in folders]
    found += [path for path in nested if path.is_dir()]
    # Archives often unpack into a second folder of the same name.
    found += [path / path.name for path in list(found) if (path / path.name).is_dir()]
    if not own_folder or root.resolve().name.casefold() in names:
        found.append(root)
    return found


def _find_meta(root: Path, names: list[str], places: list[Path]) -> Path | None:
    files = {path.name.casefold(): path for path in sorted(root.glob("*.json"))}
    candidates = [files.get(f"meta_{name}.json") for name in names]
    for place in places:
        candidates.append(place / "meta.json")
        candidates += [place / f"meta_{name}.json" for name in names]
    return next((path for path in candidates if path and path.is_file()), None)
