"""A discrete-event simulator of a training job on a failing fleet, around the same `decide` that the controller uses."""
