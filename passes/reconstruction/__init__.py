"""Weights on grids, chosen so that layers answer calibration data as they did: no training, no labels."""

from passes.reconstruction.methods import METHODS
from passes.reconstruction.reconstruct import Reconstruction, reconstruct
from passes.reconstruction.statistics import Source

__all__ = ["METHODS", "Reconstruction", "Source", "reconstruct"]
