"""The operator REST API: blueprints and the schemas they speak."""
