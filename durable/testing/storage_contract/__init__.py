"""
The contract of `JournalStorage` as a test suite: what every provider has to pass, ours and yours.

How to use it, in a test module of a provider (pytest and hypothesis are needed, no pytest plugin is)::

    from durable.testing.storage_contract import Clock, StorageContract

    class TestMyStorage(StorageContract):
        def make_storage(self, place, clock):
            return MyStorage(f"my:///{place}", lease_clock=clock)

``place`` is an empty directory of the running test. Every object made for the same place must see the same data (use it
as a name if your data are elsewhere); what is made is opened and closed by the suite. ``clock()`` gives seconds; leases
must run on it, so that nothing here sleeps. A provider whose lease clock cannot be given overrides `pass_time` and
waits really (shorten `LEASE` then), and calls `pytest.skip` when the clock is to be set back.

Say more about your store and more is tested; each is explained in `suite.Suite`:

- ``url(place)``, by which another OS process opens the same data: contention between OS processes, ``kill -9`` in the
  middle of commits, full and broken disks (with ``strace``). Your provider has to be installed for `open_storage`.
- ``KEEPS_FILES = True`` if a copy of the place is a copy of the store: nothing is lost that is not closed, and each
  commit is synced before it is acknowledged.
- ``damaged_places``: torn writes, at many places of the last commit.
- ``HEARS_CHANGES = False`` if hosts on your store only poll; ``agreement_settings`` for a longer or shorter comparison
  with ``memory://``, in which hypothesis does random things to both.

What is skipped says what is not tested. The subjects are one module each; derive from a single one (`Claims`, `Mails`,
…) to see only that. The suite says nothing about speed. `docs/writing-a-provider.md` walks through a small provider.
"""

from pkgutil import iter_modules

from durable.errors import needing_extra

with needing_extra("test", "durable.testing.storage_contract"):
    import pytest

    # Failures show the values they compare, as in a test module; it has to be said before the subjects are imported.
    pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in iter_modules(__path__)))

    from durable.testing.storage_contract.agreement import AgreesWithMemory
    from durable.testing.storage_contract.answers import Answers
    from durable.testing.storage_contract.batches import Batches
    from durable.testing.storage_contract.claims import Claims
    from durable.testing.storage_contract.contention import Contention
    from durable.testing.storage_contract.creations import Creations
    from durable.testing.storage_contract.endings import Endings
    from durable.testing.storage_contract.interruptions import Interruptions
    from durable.testing.storage_contract.mails import Mails
    from durable.testing.storage_contract.sessions import Sessions
    from durable.testing.storage_contract.sharing import Sharing
    from durable.testing.storage_contract.successions import Successions
    from durable.testing.storage_contract.suite import Suite
    from durable.testing.storage_contract.values import Values
    from durable.testing.storage_parts import Clock

__all__ = [
    "AgreesWithMemory",
    "Answers",
    "Batches",
    "Claims",
    "Clock",
    "Contention",
    "Creations",
    "Endings",
    "Interruptions",
    "Mails",
    "Sessions",
    "Sharing",
    "StorageContract",
    "Successions",
    "Suite",
    "Values",
]


class StorageContract(
    Creations,
    Batches,
    Answers,
    Sessions,
    Claims,
    Contention,
    Mails,
    Endings,
    Successions,
    Values,
    Sharing,
    Interruptions,
    AgreesWithMemory,
):
    """The whole contract. Derive from it, say how a storage object is made, and pytest finds the tests."""
