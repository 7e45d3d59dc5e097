"""Lehr: train open language models end to end. The library is pure PyTorch and knows no orchestrator.

All rooms of the house are packages of this one, `lehr.cli` and so on, so that an installation adds one name and no other. In a
checkout they lie beside this folder, and links in it lead there. What is here by itself imports none of them.
"""

__version__ = "0.1.0"  # the only place that says it
