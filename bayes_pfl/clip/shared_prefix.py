"""Prompts with a shared prefix through a causal text tower, each prefix computed once. Exact.

In a causal tower no token depends on a later one. So [SOS] gives the same for all prompts, and the
context of a pair the same for its normal and its abnormal prompt. They are levels of a tree, whose
leaves attend to the keys and values of the levels above. The last block is computed for the token
that is read at [EOS] alone.

Symbols: n sequences on a level, L their length, T text width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bayes_pfl.clip.frozen_layers import is_plain_attention

Shapes = list[tuple[int, int]]  # n and L of each level


def can_share(transformer: Any, attn_mask: Tensor | None) -> bool:
    """Whether the tower is causal, and its blocks are those that this file computes."""
    from open_clip.transformer import ResidualAttentionBlock

    if attn_mask is None or attn_mask.ndim != 2:
        return False
    lower = torch.ones_like(attn_mask, dtype=torch.bool).tril()
    causal = torch.equal(attn_mask == 0, lower) and bool((attn_mask[~lower] == -torch.inf).all())
    blocks = getattr(transformer, "resblocks", ())
    return causal and all(
        type(block) is ResidualAttentionBlock and is_plain_attention(block.attn) for block in blocks
    )


def read_leaves(transformer: Any, levels: Sequence[Tensor], read_at: Tensor) -> Tensor:
    """Output of a causal transformer at one token of every leaf.

    Args:
        transformer: of open_clip; see :func:`can_share`.
        levels: embedded tokens (n, L, T), from the root to the leaves; n divides the next level's,
            and the children of a sequence follow each other there.
        read_at: position within each leaf, (n,) of the last level.

    Returns:
        (n, T) of the last level, before the final norm.
    """
    shapes: Shapes = [(level.shape[0], level.shape[1]) for level in levels]
    tokens = torch.cat([level.flatten(0, 1) for level in levels])
    *blocks, last = transformer.resblocks
    recompute = transformer.grad_checkpointing and torch.is_grad_enabled()
    for block in blocks:
        tokens = _run(recompute, _block, block, tokens, shapes)
    return _run(recompute, _last_block, last, tokens, shapes, read_at)


def _run(recompute: bool, step: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """``step(*arguments)``, with its activations recomputed in the backward pass if asked for."""
    if not recompute:
        return step(*arguments)
    result: Tensor = checkpoint(step, *arguments, use_reentrant=False)
    return result


def _block(block: Any, tokens: Tensor, shapes: Shapes) -> Tensor:
    """One block for the tokens of all levels together, (sum of n*L, T)."""
    attention = block.attn
    normed = block.ln_1(tokens)
    joint = F.linear(normed, attention.in_proj_weight, attention.in_proj_bias)
    queries, keys, values = (
        _heads(part, shapes, attention.num_heads) for part in joint.chunk(3, dim=-1)
    )
    attended = [
        _attend(q, k, v, _causal(q.shape[2], k.shape[2], q.device))
        for q, k, v in zip(queries, _with_prefixes(keys), _with_prefixes(values), strict=True)
    ]
    return _finish(block, tokens, torch.cat(attended))


def _last_block(block: Any, tokens: Tensor, shapes: Shapes, read_at: Tensor) -> Tensor:
    """The last block at one token per leaf, (n, T): keys and values of all tokens, one query."""
    attention, width = block.attn, tokens.shape[-1]
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    leaves, length = shapes[-1]
    read_at = read_at.to(tokens.device)
    places = torch.arange(leaves, device=tokens.device) * length + read_at
    places = places + tokens.shape[0] - leaves * length
    normed = block.ln_1(tokens)
    projected = F.linear(normed, weight[width:], bias[width:]).chunk(2, dim=-1)
    keys, values = (
        _with_prefixes(_heads(part, shapes, attention.num_heads))[-1] for part in projected
    )
    query = F.linear(normed[places], weight[:width], bias[:width])
    last = keys.shape[2] - length + read_at
    mask = torch.arange(keys.shape[2], device=tokens.device) <= last[:, None]
    query = query.view(leaves, 1, attention.num_heads, -1).transpose(1, 2)
    return _finish(block, tokens[places], _attend(query, keys, values, mask[:, None, None]))


def _finish(block: Any, tokens: Tensor, attended: Tensor) -> Tensor:
    """The rest of a block after its attention."""
    tokens = tokens + block.ls_1(block.attn.out_proj(attended))
    result: Tensor = tokens + block.ls_2(block.mlp(block.ln_2(tokens)))
    return result


def _attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Queries, keys and values (n, H, L, T/H) -> (n*L, T)."""
    attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    return attended.transpose(1, 2).flatten(2).flatten(0, 1)  # (n*L, T)


def _heads(tokens: Tensor, shapes: Shapes, heads: int) -> list[Tensor]:
    """(sum of n*L, T) -> (n, H, L, T/H) of every level."""
    parts = tokens.split([n * length for n, length in shapes])
    return [
        part.view(n, length, heads, -1).transpose(1, 2)
        for part, (n, length) in zip(parts, shapes, strict=True)
    ]


def _with_prefixes(levels: list[Tensor]) -> list[Tensor]:
    """Keys or values of every level, preceded by those of the levels above."""
    whole = levels[:1]
    for own in levels[1:]:
        above = whole[-1]  # (m, H, L, T/H); n/m of the level's sequences have each for a prefix
        each = above[:, None].expand(-1, own.shape[0] // above.shape[0], -1, -1, -1)
        whole.append(torch.cat([each.flatten(0, 1), own], dim=2))
    return whole


def _causal(queries: int, keys: int, device: torch.device) -> Tensor:
    """Mask (queries, keys) of the last tokens of a sequence: True where they may attend."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
