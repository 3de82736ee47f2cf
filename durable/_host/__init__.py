"""
The impure half of the engine: it runs actions, keeps timers, writes journals, and lets go of waiting processes.

``engine`` holds the processes of a host, each a resident of ``residents``; ``claims`` brings in more. Their actions run
in ``actions``, what they record goes through ``writing``, ``freeing`` drops those that wait, and who waits for them is
told by ``watching``. The rest is what these share: clock, timers, session, watchdog.
"""
