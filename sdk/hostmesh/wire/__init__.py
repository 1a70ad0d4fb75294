"""Bytes to messages and back: framing and bounds. Pure."""
