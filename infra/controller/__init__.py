"""The controller: watches nodes, pods, Jobs and reports, asks `lehr.infra.decide.decide`, and carries out what it answers."""
