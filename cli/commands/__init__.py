"""The `publish` nouns, a module each, loaded only when called."""
