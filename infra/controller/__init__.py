"""The controller: watches nodes, pods, Jobs and reports, asks `infra.decide.decide`, and carries out what it answers."""
