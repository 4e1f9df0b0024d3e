"""Prompts through CLIP's frozen text tower: learnt vectors in, text embeddings out.

Symbols: B images, K prompts per image, P + Q learnt vectors, T text width, D joint width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from bayes_pfl.clip.shared_prefix import can_share, read_leaves
from bayes_pfl.errors import BackboneError, DataError

PLACEHOLDER = "X"  # one token that stands where the learnt vectors go
_UNTRUNCATED = 4096  # tokens: long enough that no tokenizer cuts a name before we measure it


@dataclass(frozen=True)
class PromptTokens:
    """Token ids of B class names, before and after the learnt vectors.

    Attributes:
        prefix: (B, n) ids before the vectors ([SOS], or none).
        suffix: (B, m) ids after them: name, [EOS], padding.
        read_at: (B,) position in the whole sequence where the embedding is read.
    """

    prefix: Tensor
    suffix: Tensor
    read_at: Tensor


class TextTower(nn.Module):
    """The text half of an open_clip model, entered after its token embedding.

    Attention is causal in CLIP, so tokens after [EOS] cannot change what is read there: sequences
    are cut after the last [EOS] of the batch. Towers without a causal mask (SigLIP) get the full,
    padded length that they were trained with.

    Args:
        clip: open_clip model.
        tokenizer: its tokenizer.

    Raises:
        BackboneError: the tower cannot take prompt vectors.
    """

    attn_mask: Tensor | None

    def __init__(self, clip: Any, tokenizer: Any) -> None:
        super().__init__()
        text: Any = getattr(clip, "text", clip)
        if not hasattr(text, "token_embedding") or getattr(text, "cls_emb", None) is not None:
            raise BackboneError(
                f"text tower {type(text).__name__} cannot take prompt vectors (Hugging Face and "
                "CoCa text towers); choose a CLIP, EVA-CLIP or SigLIP model of open_clip"
            )
        self.tokenizer = tokenizer
        self.token_embedding, self.transformer = text.token_embedding, text.transformer
        self.positional_embedding, self.ln_final = text.positional_embedding, text.ln_final
        self.text_projection = text.text_projection
        self.register_buffer("attn_mask", text.attn_mask, persistent=False)
        # open_clip's CLIP and its text towers name these two differently.
        pool: Any = getattr(text, "text_pool_type", None) or getattr(text, "pool_type", "argmax")
        eos: Any = getattr(text, "text_eos_id", None) or getattr(text, "eos_id", 2)
        self.pool, self._eos = str(pool), int(eos)
        # Tokenizers have no common name for their padding: it is read from an example.
        self.pad_id = int(tokenizer([PLACEHOLDER], context_length=_UNTRUNCATED)[0, -1])
        self.context_length = int(self.positional_embedding.shape[0])
        self.width = int(self.token_embedding.weight.shape[1])
        reads_end = self.pool in ("argmax", "eos", "last")
        self._shares = reads_end and can_share(self.transformer, self.attn_mask)

    def tokenize(self, class_names: Sequence[str], vectors: int) -> PromptTokens:
        """Ids of "X {class name}" with X taken out.

        Raises:
            DataError: a name is empty, or too long for the tower with ``vectors`` vectors.
        """
        unique = {name: self._name_ids(name, vectors) for name in dict.fromkeys(class_names)}
        prefix = len(next(iter(unique.values()))[0])
        fixed = self.attn_mask is None or self.pool == "last"
        longest = max(len(ids) for _, ids in unique.values())
        width = self.context_length - prefix - vectors if fixed else longest
        suffix = torch.full((len(class_names), width), self.pad_id)
        for row, name in enumerate(class_names):
            ids = unique[name][1]
            suffix[row, : len(ids)] = torch.tensor(ids)
        ends = torch.tensor([prefix + vectors + len(unique[n][1]) - 1 for n in class_names])
        read_at = {
            "first": torch.zeros_like(ends),
            "last": torch.full_like(ends, prefix + vectors + width - 1),
        }.get(self.pool, ends)
        prefix_ids = torch.tensor([unique[n][0] for n in class_names]).view(len(class_names), -1)
        return PromptTokens(prefix_ids.long(), suffix, read_at)

    def _name_ids(self, name: str, vectors: int) -> tuple[list[int], list[int]]:
        """Ids before and after the placeholder, the latter up to [EOS] inclusive."""
        if not name.strip():
            raise DataError("class name is empty: name the thing in the image, such as 'metal nut'")
        alone, ids = self._ids(PLACEHOLDER), self._ids(f"{PLACEHOLDER} {name}")
        start = next((i for i, (a, b) in enumerate(zip_longest(alone, ids)) if a != b), None)
        if start is None:
            raise DataError(f"class name {name!r} has no token; use words of letters and digits")
        # The ids before the first difference are [SOS], if the tower has it, and the placeholder.
        room = self.context_length - (start - 1) - vectors
        suffix = ids[start:]
        if len(suffix) > room:
            raise DataError(
                f"class name of {len(name)} characters ({name[:40]!r}...) takes {len(suffix) - 1} "
                f"tokens; with {vectors} prompt vectors {room - 1} fit: shorten it"
            )
        return ids[: start - 1], suffix

    def _ids(self, text: str) -> list[int]:
        """Ids up to the one where the embedding is read, inclusive; else without padding.

        CLIP reads at the highest id, which is [EOS] ("argmax"), or at the first [EOS] ("eos").
        """
        ids: list[int] = self.tokenizer([text], context_length=_UNTRUNCATED)[0].tolist()
        last = {"argmax": max(ids), "eos": self._eos}.get(self.pool)
        if last in ids:
            return ids[: ids.index(last) + 1]
        while ids and ids[-1] == self.pad_id:
            ids.pop()
        return ids

    def forward(self, vectors: Tensor, names: PromptTokens, shared: int = 0) -> Tensor:
        """Prompt vectors (B, K, P + Q, T) -> embeddings (B, K, D), not normalised (section 3.2).

        Args:
            names: ids of the B class names.
            shared: how many leading vectors prompts k and K/2 + k have in common, as the prompts of
                a pair do; they are then encoded once, if the tower is causal.
        """
        vectors = vectors.to(self.positional_embedding.dtype)
        read = self._read_shared if shared and self._shares else self._read
        x: Tensor = self.ln_final(read(vectors, names, shared))  # (B, K, T)
        if isinstance(self.text_projection, nn.Module):
            x = self.text_projection(x)
        elif self.text_projection is not None:
            x = x @ self.text_projection
        return x

    def _read(self, vectors: Tensor, names: PromptTokens, _: int) -> Tensor:
        """Output (B, K, T) where the embedding is read; every prompt is computed in full."""
        batch, prompts, _, width = vectors.shape
        before, after = (
            self._embedded(ids, vectors)[:, None].expand(-1, prompts, -1, -1)
            for ids in (names.prefix, names.suffix)
        )
        x = torch.cat([before, vectors, after], dim=2)  # (B, K, length, T)
        length = x.shape[2]
        x = (x + self.positional_embedding[:length]).flatten(0, 1)  # (B*K, length, T)
        mask = None if self.attn_mask is None else self.attn_mask[:length, :length]
        x = self.transformer(x, attn_mask=mask).view(batch, prompts, length, width)
        rows = torch.arange(batch, device=x.device)
        read: Tensor = x[rows, :, names.read_at.to(x.device)]  # (B, K, T)
        return read

    def _read_shared(self, vectors: Tensor, names: PromptTokens, shared: int) -> Tensor:
        """As ``_read``, with [SOS] computed once, and the shared vectors once for each pair."""
        batch, prompts = vectors.shape[:2]
        pairs = vectors.unflatten(1, (2, -1)).transpose(1, 2)  # (B, K/2, 2, P + Q, T)
        start = self._embedded(names.prefix[:1], vectors)  # (1, n, T)
        after = self._embedded(names.suffix, vectors)[:, None, None]
        own = [pairs[..., shared:, :], after.expand(-1, prompts // 2, 2, -1, -1)]
        levels = [start, pairs[:, :, 0, :shared].flatten(0, 1), torch.cat(own, dim=3).flatten(0, 2)]
        ends = list(accumulate(level.shape[1] for level in levels))
        placed = [
            level + self.positional_embedding[end - level.shape[1] : end]
            for level, end in zip(levels, ends, strict=True)
        ]
        read_at = (names.read_at - ends[1]).repeat_interleave(prompts)
        leaves = read_leaves(self.transformer, [x for x in placed if x.shape[1]], read_at)
        by_pair = leaves.view(batch, -1, 2, self.width)  # (B, K/2, 2, T)
        return by_pair.transpose(1, 2).flatten(1, 2)  # (B, K, T)

    def _embedded(self, ids: Tensor, like: Tensor) -> Tensor:
        embedded: Tensor = self.token_embedding(ids.to(like.device))
        return embedded.to(like.dtype)
