"""Webhooks out: stored events told to receivers outside, signed, again until they answer."""
