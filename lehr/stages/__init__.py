"""One file a kind of stage: its configuration, inputs, output, resources, plan, and the call that does the work.

These files are read by everything that looks at a graph, so they load neither torch nor numpy: the work is imported where it
begins. lehr.pipeline.registry lists them.
"""
