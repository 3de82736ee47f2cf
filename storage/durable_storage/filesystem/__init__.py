"""
The filesystem provider: a directory with one append-only journal file for each process, readable by a person.

``provider`` is what a host sees; its work runs on one thread over one `Store` (``store``). A batch is one frame of the
commit log (``log``), one write and one fsync for all its processes, and is moved into their files later
(``checkpoint``, ``journals``). What everybody knows about the processes is kept in memory (``state``, ``entry``) and
changed through ``transaction``; ``commit`` and ``claims`` say how. ``index`` spares reading every file at opening.
``frames`` and ``lines`` are the format to the byte (docs/file-format.md), ``layout`` the names in the directory.
"""
