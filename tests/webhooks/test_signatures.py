"""Signatures: what the specification's own package makes of them, and what is not believed."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable.errors import InvalidDefinition
from durable.webhooks import InvalidSignature, Webhook, new_secret, verify
from durable.webhooks.signatures import signed_headers, signing_keys

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE = {"type": "order.shipped", "data": "ü"}
BODY = json.dumps(MESSAGE, ensure_ascii=False).encode()


def signed(secret: Any = SECRET, *, age: int = 0, body: bytes = BODY) -> dict[str, str]:
    return signed_headers(signing_keys(secret), "msg-1", int(time.time()) - age, body)


def test_the_example_of_the_specification() -> None:
    """The known message of Standard Webhooks has its known signature."""
    body = b'{"test": 2432232314}'
    headers = signed_headers(signing_keys(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_package_of_the_specification_agrees() -> None:
    """What we sign it verifies, and what it signs we verify."""
    theirs = pytest.importorskip("standardwebhooks").Webhook(SECRET)
    assert theirs.verify(BODY, signed()) == MESSAGE
    now = datetime.now(UTC)
    headers = {
        "webhook-id": "msg-2",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": theirs.sign("msg-2", now, BODY.decode()),
    }
    assert verify(SECRET, headers, BODY) == MESSAGE


def test_names_of_headers_in_any_case() -> None:
    """Servers that write headers their own way change nothing."""
    assert verify(SECRET, {name.title(): value for name, value in signed().items()}, BODY) == MESSAGE


@pytest.mark.parametrize(
    ("changed", "body"),
    [
        ({}, BODY + b" "),
        ({"webhook-id": "msg-2"}, BODY),
        ({"webhook-timestamp": str(int(time.time()) + 1)}, BODY),
        ({"webhook-timestamp": "soon"}, BODY),
        ({"webhook-timestamp": "٣"}, BODY),
        ({"webhook-timestamp": "9" * 5000}, BODY),
        ({"webhook-signature": ""}, BODY),
        ({"webhook-signature": "nonsense"}, BODY),
        ({"webhook-signature": "v1,ü€"}, BODY),
        ({"webhook-signature": "v1,\udcff"}, BODY),  # what some servers make of a byte that is no text
        ({"webhook-id": "msg-\udcff"}, BODY),
        ({"webhook-signature": signed()["webhook-signature"].replace("v1,", "v2,")}, BODY),
        ({"webhook-signature": signed(new_secret())["webhook-signature"]}, BODY),
    ],
)
def test_tampering_is_found(changed: dict[str, str], body: bytes) -> None:
    """A changed body, id, time or signature, or one made with another secret, is not believed."""
    with pytest.raises(InvalidSignature):
        verify(SECRET, signed() | changed, body)


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_each_header_is_needed(missing: str) -> None:
    """A message without one of the headers is not believed, and the error names it."""
    headers = signed()
    del headers[missing]
    with pytest.raises(InvalidSignature, match=missing):
        verify(SECRET, headers, BODY)


def test_old_messages_are_not_believed() -> None:
    """A true message is believed within the tolerance, on both sides of now, and not beyond it."""
    tolerance = timedelta(minutes=1)
    for age in (50, -50):
        assert verify(SECRET, signed(age=age), BODY, tolerance) == MESSAGE
    for age in (70, -70):
        with pytest.raises(InvalidSignature, match="more than 0:01:00 away"):
            verify(SECRET, signed(age=age), BODY, tolerance)


def test_a_secret_can_be_replaced() -> None:
    """While sender or receiver have both secrets, the other side may have either."""
    old, new = new_secret(), new_secret()
    for receivers in (old, new):
        assert verify(receivers, signed((old, new)), BODY) == MESSAGE
        assert verify((old, new), signed(receivers), BODY) == MESSAGE


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_not base64", SECRET.removeprefix("whsec_")])
def test_bad_secrets_are_refused_and_not_shown(secret: str) -> None:
    """Something too short or not base64 is no secret, and the error does not tell what it was."""
    with pytest.raises(InvalidDefinition) as caught:
        signing_keys(secret)
    assert secret.removeprefix("whsec_") not in str(caught.value) or not secret.removeprefix("whsec_")


def test_no_secret_at_all_is_refused() -> None:
    """An empty tuple would send messages that nobody can verify, or believe none: it is an error where it is given."""
    with pytest.raises(InvalidDefinition, match="no secret"):
        Webhook("https://shop.example", ())
    with pytest.raises(InvalidDefinition, match="no secret"):
        verify((), signed(), BODY)
