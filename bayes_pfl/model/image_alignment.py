"""Image-level alignment: cosines of image and text embeddings, for both stages of training.

Symbols: B images, K text embeddings, N patches, V_l layer widths, V last layer's, D joint width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchFusion(nn.Module):
    """One vector from the patch tokens of all layers, by attention pooling (paper: section 3.4).

    The concatenated tokens of a patch are mapped to ``hidden`` numbers. Another linear map and a
    softmax over the patches give their weights; the weighted sum is mapped to D.

    Args:
        vision_widths: V_l of each tapped layer.
        hidden: published as V/2.
        width: D.
    """

    def __init__(self, vision_widths: Sequence[int], hidden: int, width: int) -> None:
        super().__init__()
        self.compress = nn.Linear(sum(vision_widths), hidden)
        self.weigh = nn.Linear(hidden, 1)
        self.expand = nn.Linear(hidden, width)

    def forward(self, tokens: Sequence[Tensor]) -> Tensor:
        """Tokens of each layer (B, N, V_l) -> (B, D)."""
        fused = self.compress(torch.cat(list(tokens), dim=-1))  # (B, N, hidden)
        weights = self.weigh(fused).softmax(dim=1)  # (B, N, 1)
        pooled: Tensor = self.expand((weights * fused).sum(dim=1))  # (B, D)
        return pooled


class ImageAlignment(nn.Module):
    """Maps A_c of the text and A_i of the image, and the fusion of patch tokens (section 3.4).

    Stage 1 compares A_c t with the image embedding f itself, stage 2 with A_i (f + fuse(P)).
    """

    def __init__(self, vision_widths: Sequence[int], hidden: int, width: int) -> None:
        super().__init__()
        self.text_map = nn.Linear(width, width)
        self.image_map = nn.Linear(width, width)
        self.fusion = PatchFusion(vision_widths, hidden, width)

    def forward(
        self, pooled: Tensor, tokens: Sequence[Tensor], text: Tensor, *, stage: int
    ) -> Tensor:
        """Cosines of image and text.

        Args:
            pooled: f, (B, D), not normalised.
            tokens: raw patch tokens of each layer (B, N, V_l).
            text: t, (B, K, D), normalised.
            stage: 1 or 2.

        Returns:
            (B, K), in [-1, 1].
        """
        image = pooled if stage == 1 else self.image_map(pooled + self.fusion(tokens))
        image = F.normalize(image, dim=-1)  # (B, D)
        text = F.normalize(self.text_map(text), dim=-1)  # (B, K, D)
        return (text @ image.unsqueeze(-1)).squeeze(-1)  # (B, K)
