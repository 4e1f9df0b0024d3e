"""Residual cross-modal attention: text embeddings attend to the patches they are compared with.

Symbols: B images, N patches, V_l width of tapped layer l, D joint width, K text embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from bayes_pfl.errors import ConfigError


class ResidualCrossModalAttention(nn.Module):
    """RCA of the paper (section 3.4): one query map for all layers, one patch map A_l per layer.

    Args:
        vision_widths: V_l of each tapped layer.
        width: D.
        heads: must divide D.
        attends: False returns the text unchanged: an ablation.
    """

    def __init__(
        self, vision_widths: Sequence[int], width: int, heads: int = 4, *, attends: bool = True
    ) -> None:
        super().__init__()
        self.attends = attends
        if width % heads:
            raise ConfigError(
                f"attention_heads = {heads} does not divide the joint width {width}; "
                f"choose a divisor of {width}"
            )
        self.heads, self.scale = heads, width**-0.5
        self.query = nn.Linear(width, width)
        self.patch_maps = nn.ModuleList(nn.Linear(v, width, bias=False) for v in vision_widths)

    def project(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """Patch tokens (B, N, V_l) of each layer -> F_s = normalise(P_l A_l), (B, N, D)."""
        pairs = zip(self.patch_maps, tokens, strict=True)
        return [F.normalize(patch_map(token), dim=-1) for patch_map, token in pairs]

    def attend(self, text: Tensor, patches: Tensor) -> Tensor:
        """Text (B, K, D), normalised, and one layer's F_s (B, N, D) -> t' (B, K, D), normalised."""
        if not self.attends:
            return text
        # The published scores are scaled by the full width, not by the head's.
        queries, keys = self._split(self.query(text)), self._split(patches)
        attended = F.scaled_dot_product_attention(queries, keys, keys, scale=self.scale)
        return F.normalize(text + attended.transpose(1, 2).flatten(2), dim=-1)  # (B, K, D)

    def _split(self, tokens: Tensor) -> Tensor:
        heads: Tensor = tokens.unflatten(-1, (self.heads, -1))  # (B, *, heads, D / heads)
        return heads.transpose(1, 2)
