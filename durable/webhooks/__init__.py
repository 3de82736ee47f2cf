"""
Webhooks: news of a process brought to a URL, signed, again and again until it is there.

``webhooks`` has the targets a host knows and the process that delivers, ``telling`` says how a process ended,
``delivery`` makes one attempt, ``addresses`` keeps it away from private networks, ``signatures`` signs and verifies.
How it looks on the wire is the open specification Standard Webhooks, so that its libraries for other languages verify
it too.
"""

from durable.errors import InvalidSignature, WebhookFailed, WebhookRefused, needing_extra

with needing_extra("webhooks", "durable.webhooks"):
    from durable.webhooks.signatures import new_secret, verify
    from durable.webhooks.target import Webhook
    from durable.webhooks.webhooks import Webhooks

__all__ = [
    "InvalidSignature",
    "Webhook",
    "WebhookFailed",
    "WebhookRefused",
    "Webhooks",
    "new_secret",
    "verify",
]
