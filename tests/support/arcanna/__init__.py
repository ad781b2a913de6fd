"""A reference server of the Arcanna API: the contract as running code, for tests and for people.

with ArcannaServer({1234: Job("security-alerts", ("model.hdf5",))}, InMemoryAlerts()) as server:
    httpx.get(f"{server.url}/api/v2/health/", headers={API_KEY_HEADER: API_KEY})
"""

from tests.support.arcanna.access import (
    API_KEY,
    API_KEY_HEADER,
    READ_SCOPE,
    RECOMPUTE_SCOPE,
    RESOURCES_SCOPE,
    KeyInfo,
)
from tests.support.arcanna.alerts import (
    AlertSource,
    InMemoryAlerts,
    S3Alerts,
    corrections,
    labelled_alerts,
)
from tests.support.arcanna.faults import ERROR_MESSAGE_BODY, REASON_BODY, Fault
from tests.support.arcanna.front_door import ReceivedRequest
from tests.support.arcanna.platform import Behaviour, Job, Recompute
from tests.support.arcanna.server import ArcannaServer

__all__ = [
    "API_KEY",
    "API_KEY_HEADER",
    "ERROR_MESSAGE_BODY",
    "READ_SCOPE",
    "REASON_BODY",
    "RECOMPUTE_SCOPE",
    "RESOURCES_SCOPE",
    "AlertSource",
    "ArcannaServer",
    "Behaviour",
    "Fault",
    "InMemoryAlerts",
    "Job",
    "KeyInfo",
    "ReceivedRequest",
    "Recompute",
    "S3Alerts",
    "corrections",
    "labelled_alerts",
]
