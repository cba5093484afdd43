"""Constraint sets, one family per file."""
