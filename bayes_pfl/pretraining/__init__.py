"""How the embedded small CLIP is made: `bayes-pfl-clip-tiny`, from a pretrained image tower."""

from bayes_pfl.pretraining.config import PretrainConfig
from bayes_pfl.pretraining.recipe import PictureSource, pretrain

__all__ = ["PictureSource", "PretrainConfig", "pretrain"]
