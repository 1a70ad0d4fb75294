"""What this client has lived through with each host, as a score of 0-1000."""
