"""What a host's operator runs: the daemon, its engines, its command."""
