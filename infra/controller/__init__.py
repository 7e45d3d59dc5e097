"""The controller: watches nodes, pods, Jobs and reports, calls `fleet.decide`, and carries out the actions it returns."""
