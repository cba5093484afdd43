"""Compression passes: ADMM, its constraint sets, and training."""
