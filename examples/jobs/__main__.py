"""API and workers of one machine, each an OS process of its own, until Ctrl-C."""

import argparse
import signal
import subprocess
import sys


def main() -> None:
    parser = argparse.ArgumentParser(prog="examples.jobs")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--store", default="sqlite:///jobs.db")
    options = parser.parse_args()
    programs = [["examples.jobs.api", "--port", str(options.port)]]
    programs += [["examples.jobs.worker"]] * options.workers
    running = [
        subprocess.Popen([sys.executable, "-m", *program, "--store", options.store], process_group=0)
        for program in programs
    ]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # told to stop, it stops its programs, as with Ctrl-C
    try:
        for program in running:
            program.wait()
    except KeyboardInterrupt:
        pass
    finally:
        for program in running:
            program.terminate()  # each lets its running jobs come to their end before it leaves
        for program in running:
            program.wait()


if __name__ == "__main__":
    main()
