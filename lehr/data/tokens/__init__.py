"""Tokens on the disk: written in shards of a stated size by any number of processes, found again by document."""
