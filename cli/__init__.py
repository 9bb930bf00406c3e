"""The `publish` command: parse, call, print."""
