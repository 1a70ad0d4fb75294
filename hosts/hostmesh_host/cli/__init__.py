"""The hostmesh-host command."""
