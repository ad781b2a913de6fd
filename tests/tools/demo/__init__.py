"""The main job, seen on one machine: `make demo`."""
