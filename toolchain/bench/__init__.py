"""``compress bench``: what models cost to run in stock ONNX Runtime, here or on another machine.

Nothing in here imports torch. No module is called as one of the standard library: ``probe.py`` runs as a script, and
Python then looks for imports in this folder first.
"""
