"""Find a compute host that you can trust, and run your work on it."""
