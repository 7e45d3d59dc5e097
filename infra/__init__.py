"""Kubernetes: preflight probes, the quarantine decision (pure), the controller around it, pod templates, simulator."""
