"""Weights on disk: native checkpoints, and those of the released code."""
