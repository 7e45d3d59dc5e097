"""What `lehr doctor` looks at with the preflight's probes, and in a cluster. Each check is a function."""
