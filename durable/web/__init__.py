"""
Processes over HTTP: `app` makes an ASGI application of a host or client, `serve` serves it alone.

Needs the extra ``web``; docs/web.md tells how to use it.

``application`` wires everything. ``inputs`` types what comes in, ``pictures`` and ``problems`` write what goes out,
``access`` decides who may, ``endpoints`` and ``streams`` answer, ``patience`` says how long they wait, ``watching``
spreads one look at a process to all who follow it, ``document`` describes it all as OpenAPI. Nothing here knows how
processes run: it sees what every user of the library sees.
"""

from durable.errors import needing_extra

with needing_extra("web", "durable.web"):
    from durable.web.access import Access, AccessKind, Authorize, Limits, Principal
    from durable.web.application import app
    from durable.web.serving import serve

__all__ = ["Access", "AccessKind", "Authorize", "Limits", "Principal", "app", "serve"]
