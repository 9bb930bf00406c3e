"""SBOMs and attestations: what they are, whether they are valid, and what they hold."""
