"""Stages as Flyte tasks, one for each resource class, and what a process that runs stages needs around them.

flytekit stands in tasks/stages.py alone: everything else here serves `lehr run` too. Stages import their work late, so that
registering a workflow, or asking it for help, needs no torch.
"""
