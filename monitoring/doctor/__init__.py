"""What `lehr doctor` looks at on this machine. Each check is a function that returns its finding."""
