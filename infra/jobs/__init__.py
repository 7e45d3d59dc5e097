"""A run on a cluster without Flyte: every stage a Job of its own, and one small pod that starts them in order."""
