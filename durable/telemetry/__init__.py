"""
OpenTelemetry: traces and metrics of a host, made by an observer. Needs the extra ``otel``.

``traces`` makes one trace of each process, over all its restarts, and ``metrics`` counts and measures; ``telemetry``
puts both behind one `Observer`. Nothing else of the library knows of them.
"""

from durable.errors import needing_extra

with needing_extra("otel", "durable.telemetry"):
    from durable.telemetry.telemetry import Telemetry
    from durable.telemetry.traces import trace_of

__all__ = ["Telemetry", "trace_of"]
