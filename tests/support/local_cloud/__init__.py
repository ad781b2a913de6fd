"""The project's own template on this machine, without Docker and without an AWS account.

moto serves the AWS API and interprets the workflow; the functions run in processes of their own under AWS's
runtime client; what moto lacks of Lambda, EventBridge and Scheduler is here. IAM is not enforced (the calls
are recorded by role instead), alarms are not evaluated, and metrics are not taken from logs.
"""

import tests.support.this_machine  # noqa: F401
from tests.support.local_cloud.api import ApiFault as ApiFault
from tests.support.local_cloud.api import Call as Call
from tests.support.local_cloud.cloud import FunctionError as FunctionError
from tests.support.local_cloud.cloud import LocalCloud as LocalCloud
from tests.support.local_cloud.deployment import Incomplete as Incomplete
from tests.support.local_cloud.execution_environment import ProcessDied as ProcessDied
