"""Letting go of a waiting process without running a line of it, and what would notice that it is freed."""
