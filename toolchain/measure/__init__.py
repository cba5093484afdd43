"""Measures size, latency and fidelity, and reports them."""
