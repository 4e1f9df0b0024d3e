"""Pictures of surfaces, tissue and things rendered by the batch, in torch, on any device.

>>> from bayes_pfl.data.synthetic.batched import render_batch
>>> batch = render_batch(["batched_wood"] * 2, 0, [3, 4], size=64, defects=[None, "scratch"])
>>> tuple(batch.images.shape), batch.masks.any((1, 2)).tolist(), batch.defects
((2, 3, 64, 64), [False, True], ('good', 'scratch'))
"""

from __future__ import annotations

from bayes_pfl.data.synthetic.batched.families import BATCHED, Family
from bayes_pfl.data.synthetic.batched.faults import FAULTS
from bayes_pfl.data.synthetic.batched.render import (
    ExposedBatch,
    RenderedBatch,
    expose_batch,
    find_device,
    render_batch,
)
from bayes_pfl.data.synthetic.batched.tree import write_batched_tree

__all__ = [
    "BATCHED",
    "FAULTS",
    "ExposedBatch",
    "Family",
    "RenderedBatch",
    "expose_batch",
    "find_device",
    "render_batch",
    "write_batched_tree",
]
