"""Circles that cover the countries."""

from __future__ import annotations

CIRCLES = ""
