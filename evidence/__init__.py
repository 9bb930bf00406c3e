"""What happened and who did it: audit events and the identifiers everything is told apart by."""
