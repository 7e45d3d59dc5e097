"""Reward models: their losses, how they are judged, what they say of an answer, and ensembles of several."""
