"""The floor of a start-up: the runtime client alone."""


def handler(event: object, context: object) -> None:
    """Does nothing."""
