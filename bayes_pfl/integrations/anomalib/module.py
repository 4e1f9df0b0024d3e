"""The module that anomalib's Engine runs. Nothing is trained.

Symbols: B images, S the model's image side.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import torch
from anomalib import LearningType
from anomalib.data import Batch, InferenceBatch
from anomalib.metrics import Evaluator
from anomalib.models.components import AnomalibModule
from anomalib.visualization import Visualizer
from torch import Tensor, nn

from bayes_pfl.checkpoints.load import DEFAULT_CHECKPOINT, load_checkpoint
from bayes_pfl.data.wording import prompt_word
from bayes_pfl.detect.class_names import check_class_name
from bayes_pfl.detect.scorer import Scorer
from bayes_pfl.detect.settings import ScoringSettings
from bayes_pfl.errors import ConfigError
from bayes_pfl.fit.decision import Decision, resolve_decision
from bayes_pfl.fit.profile import Profile
from bayes_pfl.fit.profile_files import known_profile
from bayes_pfl.integrations.anomalib.processing import (
    CentredPostProcessor,
    SquarePreProcessor,
    as_bytes,
)
from bayes_pfl.model.network import BayesPFLNetwork


class BayesPFL(AnomalibModule):
    """Bayes-PFL for anomalib's Engine: zero-shot, or with a profile few-shot.

    Scores and maps are those of :meth:`bayes_pfl.BayesPFL.predict`, maps at the model's size S×S,
    to which masks are resized. Once this is imported, `anomalib.models.get_model("BayesPFL")` finds
    it. `Engine.fit` trains nothing; it looks for thresholds on the validation images.

    Args:
        checkpoint: as for :meth:`bayes_pfl.BayesPFL.from_pretrained`.
        class_name: what the images show; None for the profile's, else the category of the data
            module, else "object".
        profile: folder of ``bayes-pfl fit``: images are compared with its normal pictures. Its
            thresholds, if it has some, count in place of those that anomalib looks for.
        samples, seed: as in :meth:`bayes_pfl.BayesPFL.predict`.
        post_processor: False for scores as they are, without labels.
        evaluator, visualizer: see anomalib.

    Raises:
        BayesPFLError: a checkpoint, class name, profile or setting that cannot be used.
    """

    def __init__(
        self,
        checkpoint: str | Path = DEFAULT_CHECKPOINT,
        class_name: str | None = None,
        profile: str | Path | None = None,
        samples: int | None = None,
        seed: int = 0,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        settings = ScoringSettings(samples=samples, seed=seed)
        found, neutral = known_profile(profile)
        if found is not None:
            _check_whole_pictures(found)
        network = load_checkpoint(checkpoint, device="cpu")
        name = neutral if class_name is None else class_name
        check_class_name(network, name)
        rule = resolve_decision(network, name, settings, profile=found)
        if post_processor is True:
            post_processor = CentredPostProcessor(rule.threshold, rule.map_threshold)
        super().__init__(
            pre_processor=SquarePreProcessor(network.backbone.image_size),
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        self.model = ScoringModel(network, settings, rule, name)
        self._takes_category = class_name is None and found is None
        self._few_shot = bool(rule.references)

    @property
    def class_name(self) -> str:
        """What the prompts say that images show."""
        return self.model.class_name

    @property
    def learning_type(self) -> LearningType:
        """Few-shot with a profile that has pictures, else zero-shot."""
        return LearningType.FEW_SHOT if self._few_shot else LearningType.ZERO_SHOT

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """None of its own."""
        return {}

    def setup(self, stage: str) -> None:
        """Take the class name from the data module's category."""
        category = getattr(self.trainer.datamodule, "category", None)
        if self._takes_category and category:
            self.model.class_name = prompt_word(category)
            self.hparams["class_name"] = self.model.class_name  # a saved module keeps it

    def configure_optimizers(self) -> None:
        """None: nothing is trained."""

    def val_dataloader(self) -> list[Any]:
        """No images, where there is no data module to look for thresholds in."""
        return []

    def validation_step(self, batch: Batch, *args: Any, **kwargs: Any) -> Any:
        """Score a batch."""
        return self.test_step(batch, *args, **kwargs)

    def _refuse_export(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise ConfigError(
            "anomalib cannot export this model; use bayes-pfl export, for ONNX Runtime or OpenVINO"
        )

    to_torch = to_onnx = to_openvino = _refuse_export


class ScoringModel(nn.Module):
    """The network as anomalib calls it.

    Attributes:
        class_name: of all images.
    """

    def __init__(
        self,
        network: BayesPFLNetwork,
        settings: ScoringSettings,
        rule: Decision,
        class_name: str,
    ) -> None:
        super().__init__()
        self.network, self.class_name = network, class_name
        self._settings, self._references = settings, rule.references
        self._scorer: Scorer | None = None

    def forward(self, images: Tensor) -> InferenceBatch:
        """Score pictures float (B, 3, S, S) in [0, 1].

        Returns:
            `pred_score` float32 (B,) and `anomaly_map` float32 (B, S, S), both in [0, 1].
        """
        scored = self._on_device()(as_bytes(images), [self.class_name] * len(images))
        maps = [one.map for one in scored if one.map is not None]
        return InferenceBatch(
            pred_score=torch.tensor([one.score for one in scored], device=images.device),
            anomaly_map=torch.stack(maps).to(images.device),
        )

    def _on_device(self) -> Scorer:
        """The scorer, made again where Lightning has moved the network."""
        device = self.network.device
        if self._scorer is None or self._scorer.draws.specific_noise.device != device:
            self._scorer = Scorer(
                self.network, self._settings, spread=False, references=self._references
            )
        return self._scorer


def _check_whole_pictures(profile: Profile) -> None:
    """Raise ConfigError for what pictures of the model's size cannot give."""
    settings = profile.settings
    made = "tiles" if settings.tile is not None else "a region of interest" if settings.roi else ""
    if made:
        raise ConfigError(
            f"{profile.folder or 'the profile'}: made with {made}, but anomalib shows the model "
            "whole pictures; use bayes-pfl predict, or fit without"
        )
