"""Direct messages between two peers, acknowledged and delivered once."""
