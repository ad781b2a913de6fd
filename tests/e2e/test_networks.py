"""The real template in a company's network: private CA, outbound proxy, path prefix, VPC."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest

from tests.e2e.alone import alone, own_installation
from tests.e2e.scene import CHECK, JOB, MODELS, TRIGGER, Scene, settle
from tests.support.arcanna.alerts import TYPICAL_ACCURACY, InMemoryAlerts, labelled_alerts
from tests.support.arcanna.platform import SHORT, Job
from tests.support.arcanna.server import ArcannaServer
from tests.support.certificates import Authority
from tests.support.connect_proxy import ConnectProxy
from tests.support.installation import Installation

pytestmark = pytest.mark.long

MODEL = MODELS[0]
FUNCTIONS = (TRIGGER, CHECK)
VPC = {"SubnetIds": ["subnet-0a1", "subnet-0b2"], "SecurityGroupIds": ["sg-01"]}


class Seen(NamedTuple):
    """What could be observed after a recompute."""

    executions: list[str]
    paths: set[str]
    tunnels: dict[str, int]
    arcanna: str
    vpcs: list[dict[str, Any]]
    attached: list[str]
    errors: list[dict[str, Any]]


def _recompute() -> Seen:
    """Follows one upload to the end of its run, with an Arcanna that only the proxy can reach."""
    ca, alerts = Authority(), InMemoryAlerts()
    alerts.put(
        JOB,
        MODEL,
        "alerts.csv",
        labelled_alerts(50, TYPICAL_ACCURACY, seed=1),
    )
    with TemporaryDirectory() as folder:
        certfile, keyfile = ca.issue(Path(folder), "arcanna.internal")
        jobs = {JOB: Job(name="security-alerts", models=(MODEL,))}
        server = ArcannaServer(
            jobs,
            alerts,
            behaviour=SHORT,
            prefix="/soc/arcanna",
            certfile=certfile,
            keyfile=keyfile,
        )
        with server as arcanna, ConnectProxy() as proxy:
            base_url = arcanna.url.replace("127.0.0.1", "arcanna.internal")
            given = {
                "ArcannaBaseUrl": base_url,
                "CaBundle": ca.pem.replace("\n", " "),
                "ProxyUrl": proxy.url,
                "NoProxy": "elsewhere.internal",
                **{name: ",".join(ids) for name, ids in VPC.items()},
            }
            with own_installation("networks", arcanna, given) as here:
                for target in (Scene(here, MODEL), Scene(here, MODEL, active=True)):
                    target.upload()
                    target.ended(1)
                    settle(here)
                return _seen(here, proxy)


def _seen(here: Installation, proxy: ConnectProxy) -> Seen:
    to = [tunnel.to for tunnel in proxy.tunnels]
    client = here.cloud.client
    configurations = [
        client("lambda").get_function_configuration(FunctionName=here.cloud.physical_id(name))
        for name in FUNCTIONS
    ]
    roles = [here.cloud.physical_id(f"{name}Role") for name in FUNCTIONS]
    return Seen(
        executions=[execution["status"] for execution in here.cloud.executions()],
        paths={request.path for request in here.arcanna.requests if request.key_is_valid},
        tunnels={target: to.count(target) for target in to},
        arcanna=f"arcanna.internal:{here.arcanna.url.split(':')[2].partition('/')[0]}",
        vpcs=[{name: c["VpcConfig"][name] for name in VPC} for c in configurations],
        attached=[
            policy["PolicyArn"]
            for role in roles
            for policy in client("iam").list_attached_role_policies(RoleName=role)["AttachedPolicies"]
        ],
        errors=[record for record in here.cloud.log_records() if record.get("level") in ("WARNING", "ERROR")],
    )


@pytest.fixture(scope="module")
def seen() -> Seen:
    return alone(_recompute)


def test_recompute_completes_through_proxy_and_private_ca(seen: Seen) -> None:
    assert seen.errors == []
    assert seen.executions
    assert set(seen.executions) == {"SUCCEEDED"}


def test_each_function_makes_all_calls_over_one_proxy_connection(seen: Seen) -> None:
    # The local cloud is plain http on loopback, which bypasses the proxy.
    assert list(seen.tunnels) == [seen.arcanna]
    assert 2 <= seen.tunnels[seen.arcanna] <= 4  # one tunnel for each environment


def test_all_calls_keep_the_path_prefix(seen: Seen) -> None:
    assert seen.paths == {
        "/soc/arcanna/api/v2/metrics/model",
        "/soc/arcanna/api/v2/metrics/model/request_recompute_metrics",
        "/soc/arcanna/api/v2/metrics/job",
    }


def test_both_functions_are_in_the_vpc_and_may_create_network_interfaces(seen: Seen) -> None:
    assert seen.vpcs == [VPC, VPC]
    assert len(seen.attached) == 2
    assert all("FunctionsPolicy" in arn for arn in seen.attached)
