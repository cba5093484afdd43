"""The steps of a run: from a plan and a loaded model to one that is trained, lowered and ready to be written."""
