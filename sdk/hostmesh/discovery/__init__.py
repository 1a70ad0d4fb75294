"""Finds hosts: sources, signed records, table, criteria, probes, ranking."""
