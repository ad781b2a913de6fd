"""Greets."""


def greet(word: str) -> str:
    return f"{word}, world"
