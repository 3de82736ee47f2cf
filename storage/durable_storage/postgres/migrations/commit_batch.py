"""
The functions that apply one batch: one statement for the host, one transaction, one round trip.

A function and not a statement with many parts: mails of a batch have to see the processes that it creates, and parks
have to see its mails, so several statements are needed, each with a snapshot of its own (READ COMMITTED; the function
refuses anything else). It is safe although it is several: the first one updates the row of the session only if that is
alive, and keeps it locked until the commit. Whoever declares the session dead waits for that, and its death is
committed before anybody reads or frees a journal.

Order of locks, the same in every batch, so that batches of different hosts never wait for each other in a circle: the
session's own row, new ids in their order, existing processes in the order of their keys. Arrays come sorted by that.

The plans must be those for a large table, whatever the statistics say on the day the store is new, for they are kept
as long as the connection. So what would read whole tables is switched off inside, and the plan is made once. A plus in
front of a column keeps the planner from looking that column up: a session may own thousands when a few are asked for.
"""

_SETTINGS = """
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET lock_timeout = '5s'
""".strip()

_ISOLATION = """
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'a batch needs READ COMMITTED' USING ERRCODE = 'DU003';
    END IF;
""".strip()

# An older try of the same batch that arrives late finds another number than it expects.
_FENCE = """
        UPDATE {schema}.session s SET last_batch = batch, answer = NULL
        WHERE s.id = of_session AND s.state = 0 AND s.last_batch = coalesce(expected, s.last_batch);
        IF NOT FOUND THEN
            verdict := 'fenced';
            RETURN;
        END IF;
""".strip()

# Every process that is written to must be owned, and its journal as long as the writer believes.
_OWNERSHIP = """
        SELECT count(*) INTO counted
        FROM unnest(own_key, own_length) AS o (key, length)
        JOIN {schema}.process p ON p.key = o.key AND +p.owner = of_session
        WHERE o.length IS NULL OR o.length = (
            SELECT r.seq FROM {schema}.record r WHERE r.key = o.key ORDER BY r.seq DESC LIMIT 1
        );
        IF counted < cardinality(own_key) THEN
            RAISE EXCEPTION 'a process is not owned, or a record does not follow' USING ERRCODE = 'DU001';
        END IF;
""".strip()

_APPEND = """
        INSERT INTO {schema}.record (key, seq, kind, name, payload, time)
        SELECT a.key, a.seq, a.kind, a.name, a.payload, a.time
        FROM unnest(add_key, add_seq, add_kind, add_name, add_payload, add_time)
            AS a (key, seq, kind, name, payload, time);
""".strip()

# Each statement of the function sees what was committed before it began, so a process may be gone between two of them.
# This takes back everything, and the batch is sent again.
_PURGED = "RAISE EXCEPTION 'a process was purged at this moment' USING ERRCODE = 'serialization_failure';"

# A batch of one record: what a process that is alone with its host writes, step by step. No array has to be unpacked,
# and there is no plan to choose: each row has one index. So it does without settings, which are a tenth of its cost;
# isolation and patience with locks are those of the connection, and behind a pooler `append_records` is called instead.
# That the record itself is not there yet is what the primary key sees to.
APPEND_RECORD = f"""
CREATE OR REPLACE FUNCTION {{schema}}.append_record(
    of_session bigint, batch bigint, expected bigint,
    add_key bigint, add_seq integer, add_kind smallint, add_name text, add_payload bytea, add_time bigint,
    OUT verdict text
)
LANGUAGE plpgsql
AS $body$
#variable_conflict use_column
BEGIN
        {_FENCE}
    INSERT INTO {{schema}}.record (key, seq, kind, name, payload, time)
    SELECT add_key, add_seq, add_kind, add_name, add_payload, add_time
    FROM {{schema}}.process p
    WHERE p.key = add_key AND +p.owner = of_session
        AND EXISTS (SELECT FROM {{schema}}.record r WHERE r.key = add_key AND r.seq = add_seq - 1);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'a process is not owned, or a record does not follow' USING ERRCODE = 'DU001';
    END IF;
    verdict := 'applied';
END
$body$
"""

# A batch of records alone, which is what most batches are: fewer arguments, and nothing else to look for.
APPEND_RECORDS = f"""
CREATE OR REPLACE FUNCTION {{schema}}.append_records(
    of_session bigint, batch bigint, expected bigint, own_key bigint[], own_length integer[],
    add_key bigint[], add_seq integer[], add_kind smallint[], add_name text[], add_payload bytea[], add_time bigint[],
    OUT verdict text
)
{_SETTINGS}
AS $body$
#variable_conflict use_column
DECLARE
    counted bigint;
BEGIN
    {_ISOLATION}
        {_FENCE}
        {_OWNERSHIP}
        {_APPEND}
    verdict := 'applied';
END
$body$
"""

# Puts mail into inboxes. Whoever calls it has locked the rows of the processes, so that they stay as they are.
DELIVER = """
CREATE OR REPLACE FUNCTION {schema}.deliver(
    of_session bigint, mail_id text[], mail_kind smallint[], mail_name text[], mail_event_key text[],
    mail_payload bytea[], mail_time bigint[], OUT deliveries text, OUT hear bigint[]
)
LANGUAGE plpgsql
AS $body$
BEGIN
    SELECT
        string_agg(CASE WHEN p.status <= 1 THEN 'd' WHEN p.status > 1 THEN 'e' ELSE 'n' END, '' ORDER BY m.place),
        array_agg(DISTINCT coalesce(p.owner, 0))
            FILTER (WHERE p.status <= 1 AND (p.owner IS NULL OR p.owner IS DISTINCT FROM of_session))
    INTO deliveries, hear
    FROM unnest(mail_id) WITH ORDINALITY AS m (id, place)
    LEFT JOIN {schema}.process p ON p.id = m.id;

    UPDATE {schema}.process p SET
        mail = p.mail + m.count,
        status = CASE WHEN m.woken IS NOT NULL THEN 0 ELSE p.status END,
        reason = CASE WHEN p.status = 1 AND m.woken IS NULL THEN p.reason END,
        wake_at = CASE WHEN p.status = 0 THEN least(p.wake_at, m.earliest) ELSE m.woken END
    FROM (
        -- What is due from the first mail on that wakes a stalled process, too: a request to cancel, terminate, resume.
        SELECT u.id, count(*) AS count, min(u.time) AS earliest, min(u.time) FILTER (WHERE u.place >= u.waking) AS woken
        FROM (
            SELECT v.*, min(v.place) FILTER (WHERE v.kind IN (2, 3, 4)) OVER (PARTITION BY v.id) AS waking
            FROM unnest(mail_id, mail_kind, mail_time) WITH ORDINALITY AS v (id, kind, time, place)
        ) AS u
        GROUP BY u.id
    ) AS m
    WHERE p.id = m.id AND p.status <= 1;

    INSERT INTO {schema}.inbox (key, kind, name, event_key, payload, time)
    SELECT p.key, m.kind, m.name, m.event_key, m.payload, m.time
    FROM unnest(mail_id, mail_kind, mail_name, mail_event_key, mail_payload, mail_time)
        WITH ORDINALITY AS m (id, kind, name, event_key, payload, time, place)
    JOIN {schema}.process p ON p.id = m.id
    WHERE p.status <= 1
    ORDER BY m.place;
END
$body$
"""

# What the arguments are stands beside the code that fills them, in `durable_storage.postgres.batches`.
COMMIT_BATCH = f"""
CREATE OR REPLACE FUNCTION {{schema}}.commit_batch(
    of_session bigint, batch bigint, expected bigint,
    new_key bigint[], new_id text[], new_definition text[], new_queue text[], new_owned boolean[],
    new_wake_at bigint[],
    new_child boolean[], new_kind smallint[], new_name text[], new_payload bytea[], new_time bigint[],
    new_created_at bigint[],
    own_key bigint[], own_length integer[],
    add_key bigint[], add_seq integer[], add_kind smallint[], add_name text[], add_payload bytea[], add_time bigint[],
    taken bigint[],
    mail_id text[], mail_kind smallint[], mail_name text[], mail_event_key text[], mail_payload bytea[],
    mail_time bigint[],
    show_key bigint[], show_progress bytea[],
    life_key bigint[], life_definition text[], life_queue text[],
    live_key bigint[], live_seq integer[], live_kind smallint[], live_name text[], live_payload bytea[],
    live_time bigint[],
    go_key bigint[], go_mail integer[], go_status smallint[], go_wake_at bigint[], go_reason text[],
    go_ended_at bigint[],
    go_seq integer[], go_kind smallint[], go_name text[], go_payload bytea[],
    tell_key bigint[], tell_id text[], tell_kind smallint[], tell_name text[], tell_event_key text[],
    tell_payload bytea[], tell_time bigint[],
    OUT verdict text, OUT answer text, OUT hear bigint[]
)
{_SETTINGS}
AS $body$
#variable_conflict use_column
DECLARE
    refused bigint[];
    taken_rows json;
    held bigint[];
    deliveries text;
    counted bigint;
BEGIN
    {_ISOLATION}

    IF of_session IS NOT NULL THEN
        {_FENCE}
    END IF;
    verdict := 'applied';

    IF new_key IS NOT NULL THEN
        INSERT INTO {{schema}}.process (key, id, definition, queue, status, owner, wake_at, mail, created_at)
        SELECT n.key, n.id, n.definition, n.queue, 0, CASE WHEN n.owned THEN of_session END, n.wake_at, 0, n.created_at
        FROM unnest(new_key, new_id, new_definition, new_queue, new_owned, new_wake_at, new_created_at)
            AS n (key, id, definition, queue, owned, wake_at, created_at)
        ON CONFLICT (id) DO NOTHING;
        GET DIAGNOSTICS counted = ROW_COUNT;
        IF counted = cardinality(new_key) THEN
            INSERT INTO {{schema}}.record (key, seq, kind, name, payload, time)
            SELECT n.key, 1, n.kind, n.name, n.payload, n.time
            FROM unnest(new_key, new_kind, new_name, new_payload, new_time) AS n (key, kind, name, payload, time);
        ELSE
            -- Refused: the id belongs to another key, or to this one since before (it has a journal), or stands twice.
            refused := ARRAY(
                SELECT n.place
                FROM (
                    SELECT u.*, row_number() OVER (PARTITION BY u.id ORDER BY u.place) AS nth
                    FROM unnest(new_key, new_id) WITH ORDINALITY AS u (key, id, place)
                ) AS n
                JOIN {{schema}}.process p ON p.id = n.id
                WHERE p.key <> n.key OR n.nth > 1
                    OR EXISTS (SELECT FROM {{schema}}.record r WHERE r.key = n.key AND r.seq = 1)
            );
            -- What was in the way of the others has been purged meanwhile: nothing is, if it is tried again.
            IF counted + cardinality(refused) < cardinality(new_key) THEN
                {_PURGED}
            END IF;
            IF true = ANY (SELECT new_child[u.place] FROM unnest(refused) AS u (place)) THEN
                RAISE EXCEPTION 'the id of a child is taken' USING ERRCODE = 'DU004', DETAIL = (
                    SELECT json_agg(new_id[u.place])::text FROM unnest(refused) AS u (place) WHERE new_child[u.place]
                );
            END IF;
            SELECT json_agg(json_build_array(
                p.key, p.id, p.definition, p.queue, p.status, p.owner, p.wake_at, p.mail, p.created_at, p.ended_at,
                p.reason, encode(p.progress, 'hex')
            ))
            INTO taken_rows
            FROM (SELECT DISTINCT new_id[u.place] AS id FROM unnest(refused) AS u (place)) AS n
            JOIN {{schema}}.process p ON p.id = n.id;
            IF coalesce(json_array_length(taken_rows), 0) < (
                SELECT count(DISTINCT new_id[u.place]) FROM unnest(refused) AS u (place)
            ) THEN
                {_PURGED}
            END IF;
            INSERT INTO {{schema}}.record (key, seq, kind, name, payload, time)
            SELECT n.key, 1, n.kind, n.name, n.payload, n.time
            FROM unnest(new_key, new_kind, new_name, new_payload, new_time)
                WITH ORDINALITY AS n (key, kind, name, payload, time, place)
            WHERE n.place <> ALL (refused);
        END IF;
    END IF;

    IF own_key IS NOT NULL THEN
        {_OWNERSHIP}
    END IF;

    IF add_key IS NOT NULL THEN
        {_APPEND}
    END IF;

    IF taken IS NOT NULL THEN
        DELETE FROM {{schema}}.inbox i USING unnest(taken) AS t (number)
        WHERE i.number = t.number
            AND EXISTS (SELECT FROM {{schema}}.process p WHERE p.key = i.key AND +p.owner = of_session);
        GET DIAGNOSTICS counted = ROW_COUNT;
        IF counted < cardinality(taken) THEN
            RAISE EXCEPTION 'an inbox item is gone, or of another session' USING ERRCODE = 'DU002';
        END IF;
    END IF;

    -- Mail takes the rows of others, whose owners let go of them at the same time.
    IF mail_id IS NOT NULL OR tell_id IS NOT NULL OR num_nonnulls(show_key, life_key, go_key) > 1 THEN
        PERFORM FROM {{schema}}.process p
        WHERE p.id = ANY (mail_id) OR p.id = ANY (tell_id)
            OR p.key = ANY (show_key) OR p.key = ANY (life_key) OR p.key = ANY (go_key)
        ORDER BY p.key FOR NO KEY UPDATE;
    END IF;

    IF mail_id IS NOT NULL THEN
        SELECT d.deliveries, d.hear INTO deliveries, hear
        FROM {{schema}}.deliver(
            of_session, mail_id, mail_kind, mail_name, mail_event_key, mail_payload, mail_time
        ) AS d;
    END IF;

    IF show_key IS NOT NULL THEN
        UPDATE {{schema}}.process p SET progress = s.progress
        FROM unnest(show_key, show_progress) AS s (key, progress) WHERE p.key = s.key;
    END IF;

    -- The next life of a process: another journal in the place of the one it had.
    IF life_key IS NOT NULL THEN
        DELETE FROM {{schema}}.record r USING unnest(life_key) AS l (key) WHERE r.key = l.key;
        INSERT INTO {{schema}}.record (key, seq, kind, name, payload, time)
        SELECT a.key, a.seq, a.kind, a.name, a.payload, a.time
        FROM unnest(live_key, live_seq, live_kind, live_name, live_payload, live_time)
            AS a (key, seq, kind, name, payload, time);
        UPDATE {{schema}}.process p SET definition = l.definition, queue = l.queue, progress = NULL
        FROM unnest(life_key, life_definition, life_queue) AS l (key, definition, queue) WHERE p.key = l.key;
    END IF;

    -- Park, stall and end what had no mail meanwhile.
    IF go_key IS NOT NULL THEN
        UPDATE {{schema}}.process p
        SET owner = NULL, status = g.status, wake_at = g.wake_at, reason = g.reason, ended_at = g.ended_at
        FROM unnest(go_key, go_mail, go_status, go_wake_at, go_reason, go_ended_at)
            AS g (key, mail, status, wake_at, reason, ended_at)
        WHERE p.key = g.key AND p.mail = g.mail;
        GET DIAGNOSTICS counted = ROW_COUNT;
        IF counted < cardinality(go_key) THEN
            held := ARRAY(
                SELECT p.key FROM unnest(go_key) AS g (key)
                JOIN {{schema}}.process p ON p.key = g.key WHERE +p.owner = of_session
            );
        END IF;
        INSERT INTO {{schema}}.record (key, seq, kind, name, payload, time)
        SELECT g.key, g.seq, g.kind, g.name, g.payload, g.time
        FROM unnest(go_key, go_seq, go_kind, go_name, go_payload, go_ended_at)
            AS g (key, seq, kind, name, payload, time)
        WHERE g.seq IS NOT NULL AND g.key <> ALL (coalesce(held, ARRAY[]::bigint[]));
        DELETE FROM {{schema}}.inbox i USING unnest(go_key, go_seq) AS g (key, seq)
        WHERE i.key = g.key AND g.seq IS NOT NULL AND g.key <> ALL (coalesce(held, ARRAY[]::bigint[]));
    END IF;

    -- Others hear of the ends that held.
    IF tell_id IS NOT NULL THEN
        SELECT commit_batch.hear || d.hear INTO hear
        FROM (
            SELECT
                array_agg(t.id ORDER BY t.place) AS ids, array_agg(t.kind ORDER BY t.place) AS kinds,
                array_agg(t.name ORDER BY t.place) AS names, array_agg(t.event_key ORDER BY t.place) AS event_keys,
                array_agg(t.payload ORDER BY t.place) AS payloads, array_agg(t.time ORDER BY t.place) AS times
            FROM unnest(tell_key, tell_id, tell_kind, tell_name, tell_event_key, tell_payload, tell_time)
                WITH ORDINALITY AS t (key, id, kind, name, event_key, payload, time, place)
            WHERE t.key <> ALL (coalesce(held, ARRAY[]::bigint[]))
        ) AS t,
            {{schema}}.deliver(of_session, t.ids, t.kinds, t.names, t.event_keys, t.payloads, t.times) AS d;
    END IF;

    IF taken_rows IS NOT NULL OR held IS NOT NULL OR deliveries IS NOT NULL THEN
        answer := json_build_object('taken', taken_rows, 'held', held, 'deliveries', deliveries)::text;
        UPDATE {{schema}}.session s SET answer = commit_batch.answer WHERE s.id = of_session;
    END IF;
END
$body$
"""

FUNCTIONS = (APPEND_RECORD, APPEND_RECORDS, DELIVER, COMMIT_BATCH)
