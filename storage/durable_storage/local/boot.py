"""The clock of leases, and the boot of the machine it belongs to; the same for every provider of one machine."""

from __future__ import annotations

import time


def boot_clock() -> float:
    """Seconds on the clock of leases: it counts while the machine sleeps, and nobody can set it."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def this_boot() -> str:
    """What tells this boot of the machine from others; the same text always where the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "unknown"
