"""What can be done as a job: the processes, what each needs to know, and nothing about how jobs come and go."""

import os
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, StringConstraints

from durable import Invocation, Process, Retry, process
from examples.jobs import mail

QUEUE = "jobs"
FIRST_PAUSE = timedelta(seconds=float(os.environ.get("JOBS_FIRST_PAUSE", "1")))


class Email(BaseModel):
    to: Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$")]
    subject: str = ""
    body: str = ""


@process(queue=QUEUE)
async def send_email(proc: Process, email: Email) -> str:
    """Send an e-mail, however long that takes; returns its Message-ID, the same in every attempt."""
    message_id = f"<{proc.key('message')}@jobs.example>"
    pauses = Retry(12, delay=FIRST_PAUSE, factor=2, longest=timedelta(hours=6), on=mail.is_worth_another_try)
    await proc.do(lambda: mail.send(email.to, email.subject, email.body, message_id), "sent", retry=pauses)
    return message_id


class SendEmail(BaseModel):
    type: Literal["send_email"]
    payload: Email

    def invocation(self) -> Invocation[str]:
        return send_email(self.payload)


# A second type of job is one more process and one more model: `Job = SendEmail | MakeInvoice`.
Job = SendEmail
PROCESSES = [send_email]
