"""SBOMs: what format they are, whether they are valid, and what they hold."""
