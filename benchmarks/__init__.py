"""Lehr against its peers on the same work, in one process tree and interleaved: python -m benchmarks.AREA [--json]."""
