"""Storage providers of `durable`: memory and SQLite. They are found by URL scheme; import nothing from here."""
