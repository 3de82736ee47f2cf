"""
The SQLite provider: one file, many OS processes on one machine, full durability.

``provider`` is what a host sees. Everything that writes runs on one thread of its own (``writer``) over one stdlib
connection (``database``); ``commit``, ``claims`` and ``sessions`` are what it runs, ``statements`` the compiled SQL,
``opening`` and ``migrations`` how a file becomes a store.
Reads for people go through SQLAlchemy (``reader``). ``locks`` is what OS processes tell each other by.
"""
