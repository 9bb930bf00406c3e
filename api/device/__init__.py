"""Device gRPC over mutual TLS: the protocol, its generated stubs, and the servicer."""
