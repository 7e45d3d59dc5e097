"""Serving metrics over HTTP: a small server, and what it answers."""
