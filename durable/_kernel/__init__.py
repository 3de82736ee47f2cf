"""
The kernel: records in, commands out. A function of the journal alone.

Nothing here reads a clock, draws a random number, opens a file, starts a thread or logs. Theory of operation:

1. `Execution.feed` takes one durable record, hands its outcome to the checkpoint that waits for it, runs the process
   function on its own `ProcessLoop` until nothing is ready, and returns what the process now asks for as commands.
2. The kernel appends nothing and starts nothing. The host carries out commands and makes each outcome a record,
   durable, before it is fed back. So the journal's order is the only order a process ever sees.
3. `Execution.replay` feeds a whole journal and returns what is still outstanding at its end: the same commands a
   process that had never stopped would be waiting for.
"""
