"""
OpenTelemetry: traces and metrics of a host, made by an observer. Needs the extra ``durable[otel]``.

``traces`` makes one trace of each process, over all its restarts, and ``metrics`` counts and measures; ``telemetry``
puts both behind one `Observer`. Nothing else of the library knows of them.
"""

try:
    from durable.telemetry.telemetry import Telemetry
    from durable.telemetry.traces import trace_of
except ModuleNotFoundError as error:
    if not (error.name or "").startswith("opentelemetry"):
        raise
    raise ImportError(
        "durable.telemetry needs the package 'opentelemetry-sdk'\n  fix: pip install 'durable[otel]'"
    ) from error

__all__ = ["Telemetry", "trace_of"]
