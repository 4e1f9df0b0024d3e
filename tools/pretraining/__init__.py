"""How the embedded small CLIP is made: `bayes-pfl-clip-tiny`, from a pretrained image tower."""

from pretraining.config import PretrainConfig
from pretraining.recipe import PictureSource, pretrain

__all__ = ["PictureSource", "PretrainConfig", "pretrain"]
