"""The TUF repository: publishing, delegations and bins, the commit protocol, expiry and recovery."""
