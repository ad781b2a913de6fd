"""The environment variables that the template gives to the functions.

The patterns of the template's parameters reject wrong values before a deployment.
"""

from collections.abc import Mapping

from arcanna_metrics.errors import ConfigurationError


class Environment:
    """Reads variables by name. Raises ConfigurationError with the name."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def text(self, name: str) -> str:
        """A variable that must not be empty."""
        if value := self.optional(name):
            return value
        raise ConfigurationError(f"{name} is not set")

    def optional(self, name: str) -> str | None:
        """A variable that may be missing or empty."""
        return self._variables.get(name, "").strip() or None
