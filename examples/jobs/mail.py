"""Sending mail by SMTP, or into a folder where there is no server. Plain functions that know nothing of processes."""

import os
import smtplib
from email.message import EmailMessage
from pathlib import Path

_PATIENCE = 30.0  # seconds for each answer of the server


def send(to: str, subject: str, body: str, message_id: str) -> None:
    """
    Send one message to the server at ``JOBS_SMTP`` (``host:port``), or write it into the folder ``outbox``.

    It may happen twice, when a worker dies between the sending and the record of it. Then both carry the same
    Message-ID, by which mail systems drop the second one.
    """
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "jobs@jobs.example", to, subject
    message["Message-ID"] = message_id
    message.set_content(body)
    if address := os.environ.get("JOBS_SMTP"):
        host, _, port = address.rpartition(":")
        with smtplib.SMTP(host, int(port), timeout=_PATIENCE) as server:
            server.send_message(message)
    else:
        outbox = Path("outbox")
        outbox.mkdir(exist_ok=True)
        (outbox / f"{message_id.strip('<>')}.eml").write_bytes(bytes(message))


def is_worth_another_try(error: Exception) -> bool:
    """Whether the other side may take it later: it is down, busy, or says so itself (4xx); 5xx means never."""
    if isinstance(error, smtplib.SMTPResponseException):
        return 400 <= error.smtp_code < 500
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(400 <= code < 500 for code, _ in error.recipients.values())
    return isinstance(error, OSError)  # no connection, or it broke; all of smtplib's own errors are among them
