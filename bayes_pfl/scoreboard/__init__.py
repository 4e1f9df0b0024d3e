"""Checkpoints compared with baselines that need no training, on labelled sets, with intervals."""
