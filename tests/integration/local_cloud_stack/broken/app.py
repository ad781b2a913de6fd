"""Fails to import in an environment with only the layers and the runtime."""

import moto


def handler(event: object, context: object) -> str:
    return str(moto)
