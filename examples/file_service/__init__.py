"""
A file-processing service: large files go in over HTTP, a worker makes one ZIP archive of them, the client follows it.

The business code is `zips` (the process) and `api` (the endpoints); `imports` is a second task, which costs only its
own code. `tasks` is what all tasks share, `webhooks` tells of their end, `orphans` finds what was left behind, `bucket`
is the object store, `settings` everything that differs between a laptop and production.

    python -m examples.file_service             API and worker in one program, on SQLite and a local folder

    export FILE_SERVICE_DATABASE=postgresql://…/files FILE_SERVICE_BUCKET=s3://files
    python -m examples.file_service api         as many as one likes, on any machine
    python -m examples.file_service worker      the same

    curl -T '{a.bin,b.bin}' http://127.0.0.1:8000/uploads/order-42/
    curl -d '{"id": "order-42", "input": {"files": ["a.bin", "b.bin"]}}' -H 'content-type: application/json' \\
         http://127.0.0.1:8000/tasks/definitions/create_zip/processes
    curl -N  http://127.0.0.1:8000/tasks/processes/order-42/watch
    curl     http://127.0.0.1:8000/tasks/processes/order-42/result
    curl -OJ http://127.0.0.1:8000/archives/order-42
"""
