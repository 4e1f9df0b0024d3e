"""Published scores to compare with: a YAML file of percentages and their source."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bayes_pfl.errors import DataError
from bayes_pfl.evaluate.records import LEVEL_KEYS
from bayes_pfl.support.resources import resource_dir

PUBLISHED = "published"
LevelScores = dict[str, dict[str, float]]
"""{"image" or "pixel": {metric: value in [0, 1]}}."""


@dataclass(frozen=True)
class Published:
    """Scores of one method.

    Attributes:
        method: its title in tables.
        source: where the numbers come from, and with which weights.
        protocol: the protocol they were measured in.
        datasets: {dataset: {"image" or "pixel": {metric: value in [0, 1]}}}.
    """

    method: str
    source: str
    protocol: str
    datasets: dict[str, LevelScores]


def load_published(name_or_path: str) -> Published:
    """The numbers that come with the package ("published"), or any YAML file of the same form.

    Raises:
        DataError: there is no such file, or it has faults; all are reported together.
    """
    inside = resource_dir("datasets") / PUBLISHED / "bayes-pfl.yaml"
    path = inside if name_or_path == PUBLISHED else Path(name_or_path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(
            f"{path}: cannot be read ({' '.join(str(error).split())[:200]}); give {PUBLISHED!r} "
            "or a YAML file like datasets/published/bayes-pfl.yaml"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("datasets"), dict):
        raise DataError(f"{path}: must have the field datasets, with figures by dataset")
    faults: list[str] = []
    datasets = {str(k): _level_scores(str(k), v, faults) for k, v in content["datasets"].items()}
    if faults:
        raise DataError(f"{path}: {'; '.join(faults)}")
    parts = (content.get(key) for key in ("paper", "source", "weights"))
    source = "; ".join(str(part).strip().rstrip(".") for part in parts if part)
    method = str(content.get("method") or path.stem)
    return Published(method, source, str(content.get("protocol", "")), datasets)


def _level_scores(dataset: str, content: Any, faults: list[str]) -> LevelScores:
    scores: LevelScores = {}
    for level, values in content.items() if isinstance(content, dict) else [("", content)]:
        if level not in LEVEL_KEYS or not isinstance(values, dict):
            faults.append(f"{dataset}: give image: and pixel:, each with metrics, not {level!r}")
            continue
        for key, value in values.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if key not in LEVEL_KEYS[level] or not number or not 0 <= value <= 100:
                allowed = ", ".join(LEVEL_KEYS[level])
                faults.append(
                    f"{dataset}: {level} {key} = {value!r}; allowed are {allowed}, each a "
                    "percentage from 0 to 100"
                )
            else:
                scores.setdefault(level, {})[key] = round(value / 100, 6)
    return scores
