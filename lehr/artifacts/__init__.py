"""Artifacts: the results of stages, the stores that hold them, and fencing between overlapping attempts."""
