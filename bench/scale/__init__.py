"""How Holdfast bears a lot at once: waiting calls, functions, connections, slow calls.

    python -m bench.scale    measure and write bench/results/ (docs/explain/performance.md tells how to read it)

Each of `waiting`, `functions`, `connections`, `slow` starts Holdfast anew, measures and gives tables; none judges a
figure. `measures` is what they have in common, `api` asks Holdfast's routes, `idlers` is the process that holds
connections open. Load, meters and machine are those of `bench`.
"""

from pathlib import Path

STACK = Path(__file__).parent / "stack.yml"
