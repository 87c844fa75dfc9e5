"""Break Holdfast in every way there is and count: `python -m tests.faults`, `make faults`."""
