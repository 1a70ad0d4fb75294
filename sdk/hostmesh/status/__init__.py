"""Liveness and load of a node: ping, snapshot, watch."""
