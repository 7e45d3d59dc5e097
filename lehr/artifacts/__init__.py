"""Artifacts: what a stage hands to the next, the stores that keep them, and the fence between overlapping attempts."""
