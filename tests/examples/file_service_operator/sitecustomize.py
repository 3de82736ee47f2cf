"""
What whoever operates the file service does about OpenTelemetry before its programs begin: spans go into a file.

`opentelemetry-instrument` comes into a program in the same way, as a `sitecustomize` on the path, and sets up the same
providers, with whatever exporters the variables of OpenTelemetry name.
"""

import os

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor


def one_line(span: ReadableSpan) -> str:
    return f"{span.to_json(indent=None)}\n"


if "SPANS" in os.environ:
    file = open(os.environ["SPANS"], "a", buffering=1)  # noqa: SIM115  # open for as long as the program lives
    provider = TracerProvider(resource=Resource.create({"process.pid": os.getpid()}))
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=file, formatter=one_line)))
    trace.set_tracer_provider(provider)
