"""The Store port on an object store, which has neither folders nor locks: only whole objects, and puts with a condition."""
