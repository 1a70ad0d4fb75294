"""Checks with canary prompts which model a host runs: a plan of when and what, a comparison, evidence."""
