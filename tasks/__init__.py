"""Stages as Flyte tasks, one task for each resource class, and what a process needs around the stages that it runs.

Only tasks/stages.py uses flytekit: `lehr run` uses all other modules here too. Stages import their work late, so that
registering a workflow, or asking it for help, does not load torch.
"""
