"""Frames of calls, split without what is under test."""

from __future__ import annotations

from collections.abc import Iterator


def split_frames(data: bytes) -> Iterator[bytes]:
    """Yield the payloads of frames, heartbeats among them; what is not whole at the end is left out."""
    at = 0
    while at < len(data):
        size = shift = 0
        while at < len(data):
            byte = data[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        else:
            return
        if at + size > len(data):
            return
        yield data[at : at + size]
        at += size
