"""What tests of your own need. `ManualClock` is here; the suites for storage providers are imported by name."""

from durable.testing.clock import ManualClock

__all__ = ["ManualClock"]
