"""What is shown of runs and of the fleet: panels and boards as data. Grafana's files and `lehr watch` are made from them."""
