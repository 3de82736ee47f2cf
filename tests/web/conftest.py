"""A host with the shop's processes, its application, and a client of it over ASGI in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from durable import ProcessHost
from durable.web import Limits, app
from tests.web.served import direct
from tests.web.shop import EVENTS, SHOP


@pytest.fixture
async def host() -> AsyncIterator[ProcessHost]:
    async with ProcessHost("memory://", SHOP) as host:
        yield host


@pytest.fixture
async def web(host: ProcessHost) -> AsyncIterator[httpx.AsyncClient]:
    async with direct(app(host, SHOP, events=EVENTS, limits=Limits(rate=None))) as web:
        yield web
