"""``publish demo``: the whole journey on one machine, with real processes, real signatures and 24 real devices."""
