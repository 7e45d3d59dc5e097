"""The controller: watches nodes, pods, Jobs and reports, asks `fleet.decide`, and carries out what it answers."""
