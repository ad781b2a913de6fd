"""Cannot be imported where only the layers and the runtime are."""

import moto


def handler(event: object, context: object) -> str:
    return str(moto)
