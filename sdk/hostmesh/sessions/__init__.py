"""Wallet-authenticated sessions: challenge, authorisation, grant."""
