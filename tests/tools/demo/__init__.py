"""`make demo`: shows the main job on one machine."""
