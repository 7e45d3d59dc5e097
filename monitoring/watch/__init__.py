"""`lehr watch`: the boards' panels on a page of this machine, without Grafana and Prometheus."""
