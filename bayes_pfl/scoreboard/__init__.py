"""A checkpoint compared with baselines that need no training, on any labelled sets, with intervals."""
