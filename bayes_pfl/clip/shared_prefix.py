"""Prompts that begin alike through a causal text tower, every common beginning computed once.

In a causal tower no token sees what comes after it. So [SOS] is the same for all prompts, and the
context of a pair the same for its normal and its abnormal prompt: they are levels of a tree, whose
leaves attend to the keys and values of the levels above. Of the last block only what is read at
[EOS] is computed. All of it is exact.

Symbols: n sequences on a level, L their length, T text width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Shapes = list[tuple[int, int]]  # n and L of each level


def can_share(transformer: Any, attn_mask: Tensor | None) -> bool:
    """Whether the tower is causal, and built of the blocks that are computed here."""
    from open_clip.transformer import ResidualAttentionBlock

    if attn_mask is None or attn_mask.ndim != 2:
        return False
    lower = torch.ones_like(attn_mask, dtype=torch.bool).tril()
    causal = torch.equal(attn_mask == 0, lower) and bool((attn_mask[~lower] == -torch.inf).all())
    blocks = getattr(transformer, "resblocks", ())
    return causal and all(
        type(block) is ResidualAttentionBlock and _is_plain(block.attn) for block in blocks
    )


def _is_plain(attention: Any) -> bool:
    return (
        type(attention) is nn.MultiheadAttention
        and attention.in_proj_weight is not None
        and attention.in_proj_bias is not None
        and attention.bias_k is None
        and not attention.add_zero_attn
        and attention.dropout == 0
    )


def read_leaves(transformer: Any, levels: Sequence[Tensor], read_at: Tensor) -> Tensor:
    """What a causal transformer gives at one token of every leaf.

    Args:
        transformer: of open_clip; see :func:`can_share`.
        levels: embedded tokens (n, L, T), from the root to the leaves; n divides the next level's,
            and the children of a sequence follow each other there.
        read_at: position within each leaf, (n,) of the last level.

    Returns:
        (n, T) of the last level, before the final norm.
    """
    shapes: Shapes = [(len(level), level.shape[1]) for level in levels]
    tokens = torch.cat([level.flatten(0, 1) for level in levels])
    *blocks, last = transformer.resblocks
    recompute = transformer.grad_checkpointing and torch.is_grad_enabled()
    for block in blocks:
        tokens = _run(recompute, _through, block, tokens, shapes)
    return _run(recompute, _read, last, tokens, shapes, read_at)


def _run(recompute: bool, step: Callable[..., Tensor], *arguments: Any) -> Tensor:
    if recompute:
        return checkpoint(step, *arguments, use_reentrant=False)
    return step(*arguments)


def _through(block: Any, tokens: Tensor, shapes: Shapes) -> Tensor:
    """One block for the tokens of all levels, (sum of n*L, T): the products are made at once."""
    attention = block.attn
    projected = F.linear(
        block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias
    ).chunk(3, dim=-1)
    queries, keys, values = (_heads(part, shapes, attention.num_heads) for part in projected)
    attended = [
        _attend(q, k, v, _causal(q.shape[2], k.shape[2], q.device))
        for q, k, v in zip(queries, _beneath(keys), _beneath(values), strict=True)
    ]
    return _finish(block, tokens, torch.cat(attended))


def _read(block: Any, tokens: Tensor, shapes: Shapes, read_at: Tensor) -> Tensor:
    """The last block, of which one token per leaf is wanted: keys and values of all, one query."""
    attention, width = block.attn, tokens.shape[-1]
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    leaves, length = shapes[-1]
    read_at = read_at.to(tokens.device)
    places = torch.arange(leaves, device=tokens.device) * length + read_at
    places = places + len(tokens) - leaves * length
    normed = block.ln_1(tokens)
    projected = F.linear(normed, weight[width:], bias[width:]).chunk(2, dim=-1)
    keys, values = (_beneath(_heads(part, shapes, attention.num_heads))[-1] for part in projected)
    query = F.linear(normed[places], weight[:width], bias[:width])
    last = keys.shape[2] - length + read_at
    mask = torch.arange(keys.shape[2], device=tokens.device) <= last[:, None]
    query = query.view(leaves, 1, attention.num_heads, -1).transpose(1, 2)
    return _finish(block, tokens[places], _attend(query, keys, values, mask[:, None, None]))


def _finish(block: Any, tokens: Tensor, attended: Tensor) -> Tensor:
    tokens = tokens + block.ls_1(block.attn.out_proj(attended))
    return tokens + block.ls_2(block.mlp(block.ln_2(tokens)))


def _attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """(n, H, L, T/H) -> (n*L, T)."""
    attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    return attended.transpose(1, 2).flatten(2).flatten(0, 1)


def _heads(tokens: Tensor, shapes: Shapes, heads: int) -> list[Tensor]:
    """(sum of n*L, T) -> (n, H, L, T/H) of every level."""
    parts = tokens.split([n * length for n, length in shapes])
    return [
        part.view(n, length, heads, -1).transpose(1, 2)
        for part, (n, length) in zip(parts, shapes, strict=True)
    ]


def _beneath(levels: list[Tensor]) -> list[Tensor]:
    """Keys or values of every level, those of the levels above put before its own."""
    whole = levels[:1]
    for own in levels[1:]:
        above = whole[-1].repeat_interleave(len(own) // len(whole[-1]), dim=0)
        whole.append(torch.cat([above, own], dim=2))
    return whole


def _causal(queries: int, keys: int, device: torch.device) -> Tensor:
    """The last ``queries`` of ``keys`` tokens see what is before them: True where seen."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
