"""Storage providers of `durable`: memory, SQLite, files, PostgreSQL. Found by URL scheme; import nothing from here."""
