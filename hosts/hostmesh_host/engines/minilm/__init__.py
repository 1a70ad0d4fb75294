"""all-MiniLM-L6-v2: a text to a vector, and the HTTP server in front of it."""
