"""Holdfast's benchmark: what each step costs, beside a naive peer that does the same work in the same run.

    python -m bench          measure and write bench/results/ (docs/explain/performance.md tells how to read it)

Where things are: `scenarios` says what is measured, `holdfast_peer` and `naive/` start the two systems, `load`,
`roundtrip` and `receiver` are the processes that send and receive, `report` writes the tables.
"""
