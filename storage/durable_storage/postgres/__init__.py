"""
The PostgreSQL provider: one database, many hosts on many machines, full durability. It needs the extra ``postgres``.

``provider`` is what a host sees. ``channel`` is a connection that comes back when it was lost; over these ``commit``
applies batches (``batches`` puts them into arrays for the function that stands in ``migrations``), ``sessions`` keeps
leases, ``claims`` looks for work, ``reader`` answers questions of people. ``notices`` are what hosts tell each other,
``polling`` is what they do where that is not possible. ``tables`` and ``statements`` are the SQL.
"""
