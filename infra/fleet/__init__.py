"""The quarantine decision and its parts: pure functions over plain values. No Kubernetes, no clock, no file."""
