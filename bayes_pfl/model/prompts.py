"""The learnable prompt bank.

Symbols: M prompt pairs, P context and Q state tokens, R samples, B images, T text width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bayes_pfl.config import PromptConfig


class PromptBank(nn.Module):
    """M learnable prompt pairs (paper: equation 2).

    A prompt is [SOS] C_1..C_P S_1..S_Q [class name] [EOS]; the pair shares C and differs in S.
    """

    def __init__(self, config: PromptConfig, width: int) -> None:
        super().__init__()
        self.config = config
        state = (config.pairs, config.state_tokens, width)
        self.context = nn.Parameter(torch.empty(config.pairs, config.context_tokens, width))
        self.state_normal = nn.Parameter(torch.empty(state))
        self.state_abnormal = nn.Parameter(torch.empty(state))
        for parameter, mean in (
            (self.context, 0.0),
            (self.state_normal, 0.5),
            (self.state_abnormal, -0.5),
        ):
            nn.init.trunc_normal_(parameter, mean=mean, std=0.02)

    def forward(self, context: Tensor, normal: Tensor, abnormal: Tensor) -> Tensor:
        """Prompts shifted by samples: z_K is added to every token of its part (paper: equation 8).

        Args:
            context: image-specific samples (B, R, T).
            normal, abnormal: image-agnostic samples (R, T).

        Returns:
            Prompt vectors (B, 2 * R * M, P + Q, T): all normal ones first, index r * M + m.
        """
        contexts = self.context + context[:, :, None, None, :]  # (B, R, M, P, T)
        states = [
            bank + sample[:, None, None, :]  # (R, M, Q, T)
            for bank, sample in ((self.state_normal, normal), (self.state_abnormal, abnormal))
        ]
        prompts = [
            torch.cat([contexts, state.expand(contexts.shape[0], *state.shape)], dim=3)
            for state in states
        ]  # (B, R, M, P + Q, T) of each state
        return torch.stack(prompts, dim=1).flatten(1, 3)  # (B, 2*R*M, P + Q, T)
