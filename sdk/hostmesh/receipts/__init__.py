"""Receipts: what a job did and what is owed for it, signed by both sides."""
