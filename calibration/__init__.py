"""Data for calibration, training and evaluation."""
