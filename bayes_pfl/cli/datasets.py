"""``bayes-pfl datasets``: what is there, whether it is sound, and copies for other tools."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Context, Exit, Option, Typer

from bayes_pfl.cli.evaluate import Form
from bayes_pfl.cli.options import Json, bars, say, write_json
from bayes_pfl.cli.tables import show
from bayes_pfl.errors import ConfigError, DataError
from bayes_pfl.report.tables import markdown_table

if TYPE_CHECKING:
    from bayes_pfl.data.cards import Found

app = Typer(help="List the benchmarks, check them, write them for other tools.")

Name = Annotated[
    str, Argument(metavar="NAME|CARD.YAML", help="Name of a benchmark, or a card file.")
]
Root = Annotated[
    Path | None, Option(help="Folder that holds the datasets; default: the card's root.")
]
FormOption = Annotated[Form, Option(help="Which form of the dataset to read.")]

_FURTHER = "Further datasets; --dataset all does not include them:"

Split = Literal["test", "train"]
Format = Literal["mvtec", "meta"]


@app.callback(invoke_without_command=True)
def datasets(
    context: Context,
    data: Annotated[Path | None, Option(help="Folder that holds the datasets.")] = None,
    json_out: Json = None,
) -> None:
    """List the benchmarks and the further datasets; with --data, say which are there."""
    if context.invoked_subcommand is not None:
        if data or json_out:
            raise ConfigError(
                f"--data and --json belong behind the command: datasets "
                f"{context.invoked_subcommand} NAME --data ROOT"
            )
        return
    groups = [_listing(data), _listing(data, further=True)]
    head = ["name", "title", "domain", "results", *(["found", "images"] if data else [])]
    tables = [
        markdown_table(head, [_cells(row, head) for row in rows], texts=len(head))
        for rows in groups
    ]
    show(f"{tables[0]}\n{_FURTHER}\n\n{tables[1]}")
    if data:
        there = [f"{sum(bool(row['form']) for row in rows)} of {len(rows)}" for rows in groups]
        say(f"{there[0]} found in {data}, and {there[1]} further datasets")
    else:
        say("give --data ROOT to see which are there; where to get each: datasets/README.md")
    if json_out:
        write_json(json_out, [*groups[0], *groups[1]])


@app.command()
def check(
    name: Name,
    data: Root = None,
    split: Annotated[Split, Option(help="Which images to check.")] = "test",
    form: FormOption = "auto",
    json_out: Json = None,
) -> None:
    """Count images and look for problems; exit code 1 if there are any.

    Problems are unreadable files, masks of another size than the image, empty masks, duplicates.
    """
    from bayes_pfl.data import check as health

    with bars() as progress:
        report = health.check(name, data, split, form, progress)
    say(f"{report.dataset}: {report.form} form in {report.path}")
    for category, (normal, anomalous) in report.counts.items():
        say(f"  {category}: {normal} normal, {anomalous} anomalous {split} images")
    for line in report.lines():
        say(line)
    say("no problems found" if report.ok else f"{len(report.lines())} findings")
    if json_out:
        write_json(json_out, {**asdict(report), "ok": report.ok})
    if not report.ok:
        raise Exit(1)


@app.command()
def export(
    name: Name,
    out: Annotated[Path, Option(help="For mvtec a new folder, for meta the folder of meta.json.")],
    data: Root = None,
    form: FormOption = "auto",
    format: Annotated[
        Format,
        Option(help="mvtec: a copy as an MVTec tree. meta: meta.json for the data where they lie."),
    ] = "mvtec",
) -> None:
    """Write a dataset for other tools; the data themselves are not changed.

    meta.json can only name files below its own folder. So --out is then the dataset's folder, or a
    folder above it.
    """
    from bayes_pfl.data.cards import locate
    from bayes_pfl.data.export import export_meta, export_mvtec

    found = locate(name, data, form)
    splits = {"test": found.read("test")}
    with suppress(DataError):  # most sets that are used for testing alone have no other images
        splits = {"train": found.read("train"), **splits}
    if format == "meta":
        written = export_meta(splits, out / "meta.json")
    else:
        written = export_mvtec(splits, out)
    counts = ", ".join(f"{len(samples)} {split}" for split, samples in splits.items())
    say(f"{counts} images: {written}")


def _cells(row: dict[str, Any], head: list[str]) -> list[str]:
    known = {**row, "results": " ".join(row["supports"]), "found": row["form"] or "–"}
    return [known[name] for name in head]


def _listing(data: Path | None, further: bool = False) -> list[dict[str, Any]]:
    from bayes_pfl.data.cards import card_names, find_datasets, load_card

    found = find_datasets(data, further) if data else {}
    rows = []
    for name in card_names(further):
        card, place = load_card(name), found.get(name)
        facts = ("name", "title", "domain", "supports", "licence", "home")
        row = {fact: getattr(card, fact) for fact in facts}
        row |= {"further": further, "form": place and place.form, "path": place and place.path}
        rows.append({**row, "images": _counted(place) if place else ""})
    return rows


def _counted(place: Found) -> str:
    """Normal and anomalous test images, and whether they are as many as they should be."""
    try:
        samples = place.read()
    except DataError as error:
        return f"unusable: {error}"
    anomalous = sum(sample.label for sample in samples)
    counts = f"{len(samples) - anomalous} normal, {anomalous} anomalous"
    return f"{counts} (not as expected)" if place.differences(samples) else counts
