"""The hostmesh command."""
