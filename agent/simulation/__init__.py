"""Simulated devices: real agent cores in one process, each with its own certificate, cache and way to fail."""
