"""Wallets, key files, EIP-712 structures and the wallet's binding of a peer key."""
