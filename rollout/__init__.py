"""Rollouts: the transition table, waves, gates and cohorts, and the signed decision that tells devices what to run."""
