"""What runs on a device: a stock TUF client, the gRPC client, and the install hook."""
