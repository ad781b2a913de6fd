"""The commands behind make: demo, local stack, benchmarks, fuzzing, audit, lint, installation."""
