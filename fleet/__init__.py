"""The fleet: devices, groups, enrolment tokens, and what each device last said of itself."""
