"""Flyte workflows: wiring, no arithmetic."""
