"""What runs in a pod before and around the work: its template, the preflight probes, the gate, the supervisor (PID 1)."""
