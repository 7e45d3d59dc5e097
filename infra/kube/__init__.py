"""A small Kubernetes client: transport, API, watch, cache, lease. It knows nothing of nodes that are good or bad."""
