"""Recording rules and alerts as code: the chart's files/rules/ and files/alertmanager/ are written from here (write.py)."""
