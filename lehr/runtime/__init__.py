"""What every room needs of the process that it runs in: errors with an owner, ports, seeds, paths, signals, hardware facts."""
