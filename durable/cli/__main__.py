"""``python -m durable.cli``: the same as ``durable``, where scripts are not on the path."""

from durable.cli import main

main()
