"""Following one run: when to look, what proves its end, and what it did to the model."""
