"""Who gives a URL with a task is told of its end there: signed, and again and again until it is heard."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import AfterValidator, Field

from durable import InvalidDefinition
from durable.webhooks import Webhook, Webhooks
from durable.webhooks.target import THREE_DAYS
from examples.file_service import settings

_PATIENT = replace(THREE_DAYS, delay=settings.FIRST_PAUSE)


def target_of(url: str) -> Webhook | None:
    """Any URL is a target; but none is where there is no secret to sign with."""
    if settings.WEBHOOK_SECRET is None:
        return None
    return Webhook(url, settings.WEBHOOK_SECRET, retry=_PATIENT, allow_private=settings.WEBHOOK_PRIVATE)


webhooks = Webhooks(target_of)


def fit_for_news(url: str) -> str:
    """*url*, if news can be sent there."""
    try:
        target = target_of(url)
    except InvalidDefinition as error:
        raise ValueError(error.args[0]) from None
    if target is None:
        raise ValueError("this service sends no news: it has no FILE_SERVICE_WEBHOOK_SECRET")
    return url


Url = Annotated[str, Field(max_length=1000), AfterValidator(fit_for_news)]
