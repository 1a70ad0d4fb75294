"""Reflection: what a node serves, told to peers that know nothing of it before."""
