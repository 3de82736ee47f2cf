"""A program that delivers one webhook and is killed while the receiver thinks about its answer."""

from __future__ import annotations

import asyncio
import sys

from durable import ProcessHost
from durable.webhooks import Webhook, Webhooks


async def main(store: str, url: str, secret: str) -> None:
    webhooks = Webhooks({"shop": Webhook(url, secret, allow_private=True)})
    async with ProcessHost(store, [webhooks.deliver]) as host:
        await (await host.start(webhooks.deliver("shop", "order.shipped", {"parcel": 17}), id="news")).result()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
