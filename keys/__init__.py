"""Custody: which signer holds which role, the device CA, and the hashing of secrets."""
