"""Addresses of pages in the AWS console."""

from typing import NamedTuple
from urllib.parse import quote

from arcanna_metrics.runs.outcome import CONSOLES


class Links(NamedTuple):
    """Makes addresses of the console's pages. `partition` and `region` are the stack's."""

    partition: str
    region: str

    @classmethod
    def of(cls, arn: str) -> "Links":
        """For the partition and region of an ARN."""
        _, partition, _, region, *_ = arn.split(":", 4)
        return cls(partition, region)

    def execution(self, arn: str) -> str:
        """An execution of the state machine."""
        return self._page("states", f"/v2/executions/details/{quote(arn, safe=':')}")

    def logs(self, group: str) -> str:
        """A log group."""
        # The console decodes the fragment twice, and writes $ for the outer %.
        coded = quote(quote(group, safe=""), safe="").replace("%", "$")
        return self._page("cloudwatch", f"logsV2:log-groups/log-group/{coded}")

    def secret(self, arn: str) -> str:
        """A secret, by the name in its ARN."""
        name = arn.split(":", 6)[6].rpartition("-")[0]
        return (
            f"https://{self._host()}/secretsmanager/secret?name={quote(name, safe='')}&region={self.region}"
        )

    def parameter(self, name: str) -> str:
        """An SSM parameter."""
        path = quote(name.strip("/"), safe="")
        slash = "%252F" if name.startswith("/") else ""
        region = f"region={self.region}"
        return f"https://{self._host()}/systems-manager/parameters/{slash}{path}/description?{region}"

    def stack(self, stack_id: str) -> str:
        """A CloudFormation stack's events."""
        return self._page("cloudformation", f"/stacks/events?stackId={quote(stack_id, safe='')}")

    def _page(self, service: str, fragment: str) -> str:
        return f"https://{self._host()}/{service}/home?region={self.region}#{fragment}"

    def _host(self) -> str:
        return f"{self.region}.{CONSOLES.get(self.partition, CONSOLES['aws'])}"
