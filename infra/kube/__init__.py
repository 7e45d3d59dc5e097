"""A small Kubernetes client: transport, API, watch, cache, lease. It knows nothing about the health of nodes."""
