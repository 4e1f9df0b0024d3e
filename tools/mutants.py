"""Does a test fail when the code is wrong? Breaks the code on purpose, one place at a time.

Each mutant is a fault that would change results or break a promise. It is put into a temporary copy
of the repository, where the named test files run until the first failure. A mutant is killed if a
test fails; one that survives shows a gap in the tests.

`make mutants`, or `python tools/mutants.py --only NAME` for those whose name contains NAME.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parents[1]
FAILED, PASSED = 1, 0  # exit codes of pytest; all others mean that the tests did not run
TIMEOUT = 900


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        name: what the wrong code does.
        why: what a user would get.
        file: below bayes_pfl/.
        old, new: the text to replace, which occurs once in the file, and the wrong one.
        tests: files below tests/, of which one has to fail.
    """

    name: str
    why: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "sign of log|det| flipped",
        "the flow loss trains another distribution than the one sampled",
        "model/flows.py",
        "log_det = log_det + step",
        "log_det = log_det - step",
        ("model/test_flows.py",),
    ),
    Mutant(
        "RCA scaled with the head's width",
        "published weights give other scores",
        "model/cross_attention.py",
        "width**-0.5",
        "(width // heads) ** -0.5",
        ("model/test_cross_attention.py", "model/test_network.py"),
    ),
    Mutant(
        "stage 2 trains everything",
        "stage 2 changes the prompts that stage 1 has learned",
        "train/parameter_groups.py",
        "requires_grad_(stage == 1)",
        "requires_grad_(True)",
        ("train/test_trainer.py",),
    ),
    Mutant(
        "smoothing dropped",
        "pixel metrics of unsmoothed maps",
        "detect/scorer.py",
        "return gaussian_smooth(maps, self.sigma)",
        "return maps",
        ("predict/test_images.py", "evaluate/test_categories.py"),
    ),
    Mutant(
        "seed ignored",
        "a run cannot be varied, and seeds have no spread",
        "model/network.py",
        "manual_seed(seed)",
        "manual_seed(0)",
        ("model/test_network.py", "predict/test_images.py"),
    ),
    Mutant(
        "score depends on the batch",
        "an image's score changes with the images around it",
        "model/scoring.py",
        "score: Score = (text_score + map_score) / 2",
        "score: Score = (text_score + map_score / map_score.max()) / 2",
        ("model/test_scoring.py", "predict/test_images.py"),
    ),
    Mutant(
        "min-max over everything",
        "the authors' scores of a category depend on the two parts together",
        "model/scoring.py",
        "    low, high = values.min(), values.max()\n",
        "    low, high = 0 * values.min(), values.max()\n",
        ("model/test_scoring.py", "evaluate/test_categories.py"),
    ),
    Mutant(
        "uncertainty and low end swapped",
        "intervals that do not hold the score",
        "model/scoring.py",
        "        (scores.text_spread + spread) / 2,\n"
        "        *credible_interval(scores.pair_scores),\n",
        "        credible_interval(scores.pair_scores)[0],\n"
        "        (scores.text_spread + spread) / 2,\n"
        "        credible_interval(scores.pair_scores)[1],\n",
        ("model/test_uncertainty.py", "predict/test_images.py"),
    ),
    Mutant(
        "AUPRO's limit off by one step",
        "a benchmark figure that others cannot reproduce",
        "metrics/pro.py",
        'side="right"))',
        'side="right")) - 1',
        ("metrics/test_metrics.py", "metrics/test_regions.py"),
    ),
    Mutant(
        "regions touch at edges only",
        "AUPRO counts one diagonal defect as several",
        "metrics/pro.py",
        "connectivity=8",
        "connectivity=4",
        ("metrics/test_regions.py", "metrics/test_metrics.py"),
    ),
    Mutant(
        "conformal threshold one rank lower",
        "more false alarms than the user asked for",
        "fit/conformal.py",
        "[len(scores) - allowed]",
        "[len(scores) - allowed - 1]",
        ("fit/test_conformal.py",),
    ),
    Mutant(
        "p-value does not count ties",
        "p-values below the rate that they guarantee",
        "fit/conformal.py",
        'side="left"',
        'side="right"',
        ("fit/test_conformal.py",),
    ),
    Mutant(
        "label needs more than the threshold",
        "the image at the threshold is called normal",
        "fit/decision.py",
        "int(score >= self.threshold)",
        "int(score > self.threshold)",
        ("fit/test_decision.py",),
    ),
    Mutant(
        "rates need more than the threshold",
        "rates of an evaluation that no prediction would show",
        "evaluate/threshold.py",
        '.image_scores("deploy") >= calibration',
        '.image_scores("deploy") > calibration',
        ("fit/test_decision.py",),
    ),
    Mutant(
        "unreadable image counted as good",
        "a benchmark over other images than it says",
        "data/labelled_batches.py",
        "return sample, str(error)",
        "return sample, *(np.zeros((image_size,) * 2 + n, np.uint8) for n in ((3,), ()))",
        ("evaluate/test_categories.py", "evaluate/test_run.py"),
    ),
    Mutant(
        "unreadable file without its reason",
        "a row without a score and without an error",
        "data/decoding.py",
        'return Decoded(picture, error=" ".join(reason.split()))',
        "return Decoded(picture)",
        ("predict/test_folder.py",),
    ),
    Mutant(
        "missing mask taken as empty",
        "training in which defects count as normal",
        "data/samples.py",
        "if self.need_masks and sample.label",
        "if False and sample.label",
        ("data/test_samples.py",),
    ),
    Mutant(
        "masks resized with blur",
        "defects larger than they are",
        "data/transforms.py",
        "astype(np.uint8))\n    return np.asarray(picture.resize(size, Image.Resampling.NEAREST))",
        "astype(np.uint8) * 255)\n"
        "    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR))",
        ("data/test_transforms.py", "data/test_samples.py"),
    ),
    Mutant(
        "evaluation prompts with the category",
        "'metal_nut' in the prompt in place of 'metal nut'",
        "evaluate/scoring.py",
        "names = [sample.class_name for sample in batch.samples]",
        "names = [sample.category for sample in batch.samples]",
        ("whole/test_prompt_words.py",),
    ),
    Mutant(
        "subfolders' names as they are",
        "'metal_nut' in the prompt in place of 'metal nut'",
        "data/wording.py",
        "return prompt_word(inside.parts[0])",
        "return inside.parts[0]",
        ("whole/test_prompt_words.py",),
    ),
    Mutant(
        "training prompts with the category",
        "prompts learned for words that prediction never uses",
        "train/batches.py",
        "self.dataset.samples[i].class_name",
        "self.dataset.samples[i].category",
        ("whole/test_prompt_words.py",),
    ),
    Mutant(
        "scoreboard prompts with the category",
        "methods compared on other words than the ones they are used with",
        "scoreboard/board.py",
        "[s.class_name for s in batch.samples]",
        "[s.category for s in batch.samples]",
        ("whole/test_prompt_words.py",),
    ),
    Mutant(
        "path that leaves the root accepted",
        "a downloaded meta.json reads any file of the user",
        "data/meta.py",
        "os.path.commonpath([real, real_root]) != real_root or real == real_root",
        "real == real_root",
        ("data/test_samples.py", "data/test_cards.py"),
    ),
    Mutant(
        "weights files may run code",
        "a downloaded checkpoint runs what it likes",
        "clip/weights.py",
        "weights_only=True",
        "weights_only=False",
        ("clip/test_weight_files.py",),
    ),
    Mutant(
        "results file written in place",
        "half a file after a kill or on a full disk",
        "support/files.py",
        "    temporary = path.with_name(",
        "    temporary = path\n    path.unlink(missing_ok=True)\n    _ = path.with_name(",
        ("support/test_files.py", "predict/resume/test_disks.py"),
    ),
    Mutant(
        "highest pixels of the smoothed map",
        "the deploy score is measured on another map than its interval",
        "model/scoring.py",
        "map_score = top_mean(scores.map, fraction=DEPLOY_FRACTION)",
        "map_score = top_mean(gaussian_smooth(scores.map, 2.0), fraction=DEPLOY_FRACTION)",
        ("model/test_scoring.py", "model/test_uncertainty.py", "predict/test_images.py"),
    ),
    Mutant(
        "map transposed",
        "defects are shown where there are none",
        "model/maps.py",
        "(rows @ (logits @ columns.T)).sigmoid()",
        "(rows @ (logits @ columns.T)).mT.sigmoid()",
        ("model/test_maps.py",),
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What the tests made of a mutant: "killed", "survived" or "not tested", and by which test."""

    mutant: Mutant
    state: str
    detail: str


def main(
    only: Annotated[str, typer.Option(help="Run the mutants whose name contains this.")] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Mutants tested at the same time.")] = 2,
) -> None:
    """Break the code in one place after the other, and see whether the tests notice."""
    chosen = [mutant for mutant in MUTANTS if only in mutant.name]
    with tempfile.TemporaryDirectory(prefix="bayes-pfl-mutants-") as folder:
        with ThreadPoolExecutor(jobs) as pool:
            places = [Path(folder) / str(number) for number in range(len(chosen))]
            outcomes = list(pool.map(tested, chosen, places))
        # A test that fails without the mutant too has noticed nothing.
        killers = sorted({one.detail for one in outcomes if one.state == "killed"})
        code, said = run_tests(copy_of_repository(Path(folder) / "unchanged"), killers)
        if killers and code != PASSED:
            typer.echo(f"{said}\nThese tests fail without any mutant: mend them first.")
            raise typer.Exit(2)
    typer.echo("\n| mutant | what a user would get | killed by |\n|---|---|---|")
    for one in outcomes:
        result = f"`{one.detail}`" if one.state == "killed" else f"{one.state}: {one.detail}"
        typer.echo(f"| {one.mutant.name} | {one.mutant.why} | {result} |")
    alive = [one for one in outcomes if one.state != "killed"]
    typer.echo(f"\n{len(outcomes) - len(alive)} of {len(outcomes)} mutants killed")
    if alive:
        raise typer.Exit(1)


def copy_of_repository(place: Path) -> Path:
    """The files of the working tree that git knows or would add, without what it ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    return place


def tested(mutant: Mutant, place: Path) -> Outcome:
    """Put the mutant into a copy, and run its tests there."""
    copy = copy_of_repository(place)
    file = copy / "bayes_pfl" / mutant.file
    text = file.read_text(encoding="utf-8")
    if (count := text.count(mutant.old)) != 1:
        return Outcome(mutant, "not tested", f"its text occurs {count} times in {mutant.file}")
    file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    code, said = run_tests(copy, mutant.tests)
    shutil.rmtree(copy)
    if code == PASSED:
        return Outcome(mutant, "survived", " ".join(mutant.tests))
    failed = re.search(r"^FAILED tests/(.+?)(?: - .*)?$", said, re.M)
    if code != FAILED or failed is None:
        return Outcome(mutant, "not tested", said.strip().splitlines()[-1])
    typer.echo(f"killed: {mutant.name}")
    return Outcome(mutant, "killed", failed[1])


def run_tests(copy: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Exit code and output of test files, or of single tests, until the first failure."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *(f"tests/{name}" for name in tests)],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    return done.returncode, done.stdout + done.stderr


if __name__ == "__main__":
    typer.run(main)
