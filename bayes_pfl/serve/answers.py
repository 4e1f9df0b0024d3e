"""What a client gets for a picture."""

from __future__ import annotations

from base64 import b64encode
from typing import TypeAlias

from pydantic import BaseModel, Field

from bayes_pfl.detect.results import AnomalyResult
from bayes_pfl.predict.output import encode_map
from bayes_pfl.predict.rows import MOST_REGIONS

Corners: TypeAlias = tuple[int, int, int, int]


class RegionOfAnswer(BaseModel):
    """A connected part of the map at or above its threshold."""

    area: int = Field(description="Pixels.")
    box: Corners = Field(
        description="Left, top, right, bottom in pixels of the picture; the last two exclusive."
    )
    peak: float = Field(description="Highest value of the map in it.")
    peak_x: int = Field(description="With peak_y where that is.")
    peak_y: int
    mean: float = Field(description="Of the map in it.")
    p_value: float | None = Field(
        description="Share of normal pictures whose highest map value reaches the peak; null "
        "without a profile that has thresholds."
    )


class NearestNormalOfAnswer(BaseModel):
    """The most anomalous place, and what the normal pictures have that is most like it."""

    name: str = Field(description="Of the normal picture, as it was fitted.")
    distance: float = Field(description="Of the two places, from 0.")
    box: Corners = Field(description="Around the place.")
    reference_box: Corners = Field(
        description="Around the other, in the normal picture or tile as the model sees it."
    )


class Answer(BaseModel):
    """Score and verdict of one picture, by the names of the columns of predictions.csv."""

    class_name: str = Field(description="The word of the prompts.")
    width: int = Field(description="Of the picture, in pixels, turned as its EXIF says.")
    height: int
    score: float = Field(description="How anomalous the picture is, from 0 to 1.")
    label: int | None = Field(description="1 if the score reached the threshold, else 0.")
    p_value: float | None = Field(description="Share of normal pictures that score as high.")
    needs_review: bool | None = Field(description="Whether it did not, but nearly.")
    score_low: float = Field(description="With score_high the central 95% of the prompts' scores.")
    score_high: float
    uncertainty: float = Field(description="How far the prompts disagree, from 0 to 0.5.")
    text_score: float = Field(description="Of the whole picture, by words.")
    map_score: float = Field(description="Of the highest pixels of the map, by words.")
    words_score: float | None = Field(description="By words alone; null without a profile.")
    memory_score: float | None = Field(
        description="Distance to the normal pictures, from 0; null without a profile."
    )
    threshold: float | None = Field(description="Of the score; null where none is known.")
    map_threshold: float | None = Field(description="Of the map; null where none is known.")
    regions: list[RegionOfAnswer] | None = Field(
        description=f"The most anomalous first, {MOST_REGIONS} at most; null without a threshold "
        "of the map."
    )
    region_count: int | None = Field(description="All of them.")
    nearest_normal: NearestNormalOfAnswer | None = Field(
        description="null without a profile, and from an export."
    )
    first_of: str | None = Field(
        description="pages or frames, where the file holds several: the first was scored."
    )
    map_png: str | None = Field(
        description="With ?map=png the map at the picture's size: a grey 16-bit PNG, base64; 65535 "
        "stands for 1."
    )


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


def answer_of(
    result: AnomalyResult, threshold: float | None, first_of: str | None, with_map: bool
) -> Answer:
    """The answer for a result.

    Args:
        threshold: of the score.
        first_of: what the file holds several of; None for one picture.
    """
    figures = result.to_dict()
    del figures["path"]
    figures["region_count"] = figures.pop("regions")
    regions = result.regions
    png = b64encode(encode_map(result.anomaly_map, "png16")).decode() if with_map else None
    return Answer(
        **figures,
        threshold=threshold,
        map_threshold=result.map_threshold,
        regions=None
        if regions is None
        else [RegionOfAnswer(**vars(one)) for one in regions[:MOST_REGIONS]],
        nearest_normal=_nearest(result),
        first_of=first_of,
        map_png=png,
    )


def _nearest(result: AnomalyResult) -> NearestNormalOfAnswer | None:
    if (near := result.nearest_normal) is None:
        return None
    return NearestNormalOfAnswer(
        name=near.name, distance=near.distance, box=near.box, reference_box=near.reference_box
    )
