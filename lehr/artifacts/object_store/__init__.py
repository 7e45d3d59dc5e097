"""The Store port on an object store, which has no folders and no locks, only whole objects and conditional puts."""
