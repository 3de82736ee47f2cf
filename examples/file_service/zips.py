"""The first task: uploaded files become one ZIP archive."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from durable import Process, current_step, process
from examples.file_service import settings
from examples.file_service.bucket import Bucket, Stored
from examples.file_service.tasks import PATIENT, FileNames, places_of
from examples.file_service.webhooks import Url, webhooks
from examples.zip_pipeline import archive_size, publish, stop_if_cancelled
from examples.zipping.terminal import Meter
from examples.zipping.zip_format import Member, Packer


@dataclass(frozen=True)
class Archive:
    """A finished archive."""

    path: str
    files: int
    size: int


@process(queue=settings.QUEUE, timeout=settings.TIMEOUT)
@webhooks.notified(lambda files, webhook=None: webhook, event="task")
async def create_zip(proc: Process, files: FileNames, webhook: Url | None = None) -> Archive:
    """Pack the uploaded *files* into one archive, and remove them: all of it, or nothing."""
    async with places_of(proc) as places:
        archive = f"{places.results}files.zip"
        sources = await proc.do(lambda: Bucket().find(places.uploads, files), "files found", retry=PATIENT)
        meter, members = Meter(sum(source.size for source in sources)), []
        for number, source in enumerate(sources):
            packing = partial(pack, source, f"{places.parts}{number:06}", meter)
            members.append(await proc.do(packing, f"packed {number:06} {source.name[-150:]}", retry=PATIENT))
        await proc.do(lambda: publish(members, settings.BUCKET, places.parts, archive), "published", retry=PATIENT)
    return Archive(archive, len(members), archive_size(members))


def pack(source: Stored, part: str, meter: Meter) -> Member:
    """Download one file, pack it and upload it as *part*, with a few chunks in memory."""
    packer, bucket, step = Packer(), Bucket(), current_step()

    def chunks() -> Iterator[bytes]:
        for chunk in bucket.read(source.path):
            stop_if_cancelled(step)
            yield chunk
            step.progress(*meter.at(part, packer.size), f"packing {source.name}")

    bucket.put(part, packer.pack(chunks()), source.size)
    mode = 0o100644
    return Member(source.name, mode, source.modified, packer.size, packer.packed_size, packer.crc, packer.sha256)
