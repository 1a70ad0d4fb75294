"""Canaries: prompts whose answers tell whether a host runs the model that it sells."""
