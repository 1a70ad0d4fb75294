"""What computes: an adapter for every OpenAI-compatible engine, and two engines in child processes of our own."""
