"""What every room needs of its process: errors with an owner, ports, seeds, paths, signals, hardware facts."""
