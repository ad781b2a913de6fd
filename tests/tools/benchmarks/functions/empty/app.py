"""The floor of a start-up: what the runtime client alone costs."""


def handler(event: object, context: object) -> None:
    """Does nothing."""
