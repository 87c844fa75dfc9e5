"""Holdfast's benchmark: what each step costs, beside peers that do the same work in the same run.

    python -m bench          measure and write bench/results/ (docs/explain/performance.md tells how to read it)

Where things are: `scenarios` says what is measured, `systems` names who takes part: `holdfast_peer`, `naive/`,
`celery_redis/` and `taskiq_nats/`, made of what is in `servers`. `load`, `roundtrip` and `receiver` are the processes
that send and receive, `queue` looks at what is stored, `report` writes the tables.
"""
