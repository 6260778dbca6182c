"""Checkpoints in another format: what is written beside the weights, and how output appears only when it is whole."""
