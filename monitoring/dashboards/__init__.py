"""Grafana's files of the boards: `python -m lehr.monitoring.dashboards` writes them with Grafana's own SDK."""
