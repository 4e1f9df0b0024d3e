"""A checkpoint beside baselines that need no training, on any labelled sets, with intervals."""
