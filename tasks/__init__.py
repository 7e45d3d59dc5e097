"""Flyte tasks: resources, retries, one call into `lehr` each. Task names contain these module paths: they stay."""
