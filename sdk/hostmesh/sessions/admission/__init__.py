"""Whom a host takes: what stands between a stranger and a session, before and after its signature is checked."""
