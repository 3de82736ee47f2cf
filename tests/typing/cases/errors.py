"""The error tree: codes are strings, and a process that timed out is caught as a `TimeoutError`."""

from typing import assert_type

from durable.errors import DurableError, ProcessTimedOut

assert_type(DurableError.code, str)
number: int = DurableError.code  # expect-error: assignment | reportAssignmentType
timed_out: TimeoutError = ProcessTimedOut("too late")
cancelled: ValueError = ProcessTimedOut("too late")  # expect-error: assignment | reportAssignmentType
