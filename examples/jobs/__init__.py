"""
A jobs system: an HTTP API that takes jobs, any number of worker hosts that run them, and one database between them.

The API is a client: it writes a job down and answers. A worker is told at once (no sweep through a table), runs it,
tries again with growing pauses when somebody else's service is down, and hands over when it dies. There is no queue, no
status table, no lock and no sweeper in here: the database behind the URL is the only thing the two programs share.

    python -m examples.jobs                                     API and two workers on a SQLite file
    python -m examples.jobs --store postgresql://…/jobs         the same on PostgreSQL; or, on different machines:
    python -m examples.jobs.api --store postgresql://…/jobs
    python -m examples.jobs.worker --store postgresql://…/jobs

    curl -X POST http://127.0.0.1:8000/jobs -H 'content-type: application/json' \\
         -d '{"type": "send_email", "payload": {"to": "ann@example.com", "subject": "Hello"}}'
    curl http://127.0.0.1:8000/jobs/ID
    curl http://127.0.0.1:8000/health
"""
