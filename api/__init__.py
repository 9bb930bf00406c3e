"""Everything that listens: the operator REST API, device gRPC, wiring and background jobs."""
