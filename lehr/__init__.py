"""Lehr: train open language models end to end. This package is pure PyTorch and knows no orchestrator."""

__version__ = "0.1.0"
