"""Version 1: the tables and indexes of the first release. What they are for stands in `durable_storage.schema`."""

STATEMENTS = (
    """
    CREATE TABLE process (
        "key" INTEGER NOT NULL,
        id TEXT NOT NULL,
        definition TEXT NOT NULL,
        queue TEXT NOT NULL,
        status SMALLINT NOT NULL,
        owner INTEGER,
        wake_at BIGINT,
        mail INTEGER NOT NULL,
        created_at BIGINT NOT NULL,
        ended_at BIGINT,
        reason TEXT,
        progress BLOB,
        PRIMARY KEY ("key"),
        UNIQUE (id)
    )
    """,
    """
    CREATE TABLE record (
        "key" INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        kind SMALLINT NOT NULL,
        name TEXT NOT NULL,
        payload BLOB NOT NULL,
        time BIGINT NOT NULL,
        PRIMARY KEY ("key", seq)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE inbox (
        number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        "key" INTEGER NOT NULL,
        kind SMALLINT NOT NULL,
        name TEXT NOT NULL,
        event_key TEXT,
        payload BLOB NOT NULL,
        time BIGINT NOT NULL
    )
    """,
    """
    CREATE TABLE session (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        host TEXT NOT NULL,
        state SMALLINT NOT NULL,
        lease_until BIGINT NOT NULL,
        boot TEXT NOT NULL,
        last_batch BIGINT NOT NULL
    )
    """,
    "CREATE INDEX process_due ON process (queue, wake_at) WHERE owner IS NULL AND wake_at IS NOT NULL AND status = 0",
    "CREATE INDEX process_owned ON process (owner, wake_at) WHERE owner IS NOT NULL",
    "CREATE INDEX process_ended ON process (ended_at) WHERE ended_at IS NOT NULL",
    "CREATE INDEX process_by_status ON process (status)",
    "CREATE INDEX process_by_definition ON process (definition, status)",
    'CREATE INDEX inbox_by_process ON inbox ("key")',
)
