"""Typed calls over streams: one stream a call, a deadline, a mandatory status."""
