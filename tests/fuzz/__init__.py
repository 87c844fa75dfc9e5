"""Coverage-guided fuzzing, by `make fuzz`. `make test` needs none of its library and runs the kept inputs only."""
