"""The tuned tower on disk, so that a run that is stopped after the tuning does not repeat it."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from bayes_pfl.errors import DataError
from bayes_pfl.support.files import write_atomically
from pretraining.cost import Cost
from pretraining.split_trunk import SplitTrunk


def save_tower(trunk: SplitTrunk, path: Path, losses: dict[str, float], cost: Cost) -> None:
    """Write the weights of ``trunk`` with the losses at the end of the tuning and its cost."""
    facts = {"losses": losses, "wall": cost.wall, "processor": cost.processor}
    tensors = {name: x.contiguous().cpu() for name, x in trunk.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, save(tensors, metadata={"facts": json.dumps(facts)}))


def load_tower(trunk: SplitTrunk, path: Path) -> tuple[dict[str, float], Cost]:
    """Load the weights of ``path`` into ``trunk``; returns its losses and cost.

    Raises:
        DataError: a file of another kind or of another tower.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            state = {name: file.get_tensor(name) for name in list(file.keys())}
        trunk.load_state_dict(state)
        return facts["losses"], Cost(facts["wall"], facts["processor"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{path}: not a tuned tower ({reason}); delete it") from error
