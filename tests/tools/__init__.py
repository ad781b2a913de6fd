"""The commands behind the Makefile: demo, local stack, benchmarks, fuzzing, audit, lint, installation."""
