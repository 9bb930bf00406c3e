"""The signer process: it holds the online keys behind a Unix socket and signs what its policy allows."""
