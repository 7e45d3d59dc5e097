"""One file for each kind of stage: its configuration, inputs, output, resources, plan, and the function that does the work.

Everything that reads a graph imports these files, so they load neither torch nor numpy: `run` imports what it needs.
lehr.pipeline.registry lists them.
"""
