"""One process in memory: what its kernel asks for becomes action, timer or record, and how it leaves."""
