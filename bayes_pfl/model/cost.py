"""The memory that scoring takes, estimated from sizes alone: a config may come from a stranger.

Symbols: K = R*M prompt pairs, N patches, V_l layer widths, T text width.
"""

from __future__ import annotations

import math

from bayes_pfl.clip.frozen_clip import FrozenCLIP
from bayes_pfl.config import ModelConfig

_FLOAT = 4  # bytes
_IN_A_BLOCK = 12  # copies of its tokens that a block of the text tower holds; in float32 18
_OF_THE_TOKENS = 4  # copies of the image's tokens on their way to the maps


def scoring_bytes(config: ModelConfig, backbone: FrozenCLIP, samples: int) -> dict[str, int]:
    """Bytes that one image takes, by the settings they come from: rather too few than too many.

    Args:
        samples: R; 0 for the mean prompt.
    """
    prompts, parts = config.prompts, config.ablation
    sampled = parts.flow and (parts.specific or parts.agnostic)
    pairs = prompts.pairs * (max(1, samples) if sampled else 1)
    # The context is encoded once for both states; a name has one token at least, then comes [EOS].
    tokens = pairs * (prompts.context_tokens + 2 * (prompts.state_tokens + 2))
    patches, widths = math.prod(backbone.grid), backbone.vision_widths
    maps = len(widths) * pairs * patches
    similarities = min(patches, backbone.cells) ** 2 if backbone.joined else 0
    return {
        f"samples = {samples} with prompts.pairs = {prompts.pairs}": _FLOAT
        * (_IN_A_BLOCK * tokens * backbone.text.width + maps),
        f"backbone.grid = {backbone.grid[0]} with {len(widths)} layers": _FLOAT
        * (_OF_THE_TOKENS * patches * sum(widths) + similarities),
    }
