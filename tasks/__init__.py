"""Flyte tasks: resources, retries, one call into `lehr` each. Task names contain these module paths: they stay.

Stages are imported inside the tasks: registering a workflow, or asking it for help, needs no torch.
"""
