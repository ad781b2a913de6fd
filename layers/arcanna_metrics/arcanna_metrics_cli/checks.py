"""The doctor's checks: pure functions from what AWS answers to a line with a remedy."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from arcanna_metrics.errors import NO_WAY, NOT_ALLOWED
from arcanna_metrics_cli.links import Links
from arcanna_metrics_cli.troubles import is_missing
from arcanna_metrics_cli.words import counted

GOOD = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"}
USABLE = {"UPDATE_ROLLBACK_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"}
_UNKNOWN_CA = (
    "Put the CA that has signed Arcanna's certificate into the parameter CaBundle, or into the file"
    " layers/arcanna_metrics/ca.pem"
)
_REMEDIES = {
    NO_WAY: "Give the functions a route to it: a NAT, a proxy or a VPC endpoint (layers/README.md, Networks)",
    NOT_ALLOWED: "Allow both functions' roles secretsmanager:GetSecretValue, and kms:Decrypt with its key",
    "certificate has expired": "Renew Arcanna's certificate, or the CA in CaBundle or ca.pem",
    "certificate verify failed: self": _UNKNOWN_CA,  # "self-signed", in OpenSSL 1 "self signed"
    "certificate verify failed: unable to": _UNKNOWN_CA,
    "CERTIFICATE_VERIFY_FAILED": (
        "Give Arcanna a certificate for this host name, of a CA that the functions trust"
    ),
}
"""Remedies by words in the detail of a finding. Those about certificates are OpenSSL's.

https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
"""


class Check(NamedTuple):
    """The result of one check. `remedy` says what to do, and is empty if nothing is wrong.

    `warning` marks a result that does not stop the stack from working.
    """

    what: str
    said: str
    remedy: str = ""
    warning: bool = False

    @property
    def state(self) -> str:
        """`good`, `warning` or `wrong`."""
        return "good" if not self.remedy else "warning" if self.warning else "wrong"


class Known(NamedTuple):
    """The stack's resources, as checks compare and remedies name them.

    A bucket may notify the updates queue, which accepts `senders`, or the trigger, here its name. `deploy`
    is the command that deploys the stack.
    """

    region: str
    queue_arn: str
    senders: Sequence[str]
    trigger: str
    base_url: str
    secret_arn: str
    secret_field: str
    settings_parameter: str
    topic_arn: str
    deploy: str


def stack(name: str, status: str) -> Check:
    """Checks the status of the CloudFormation stack."""
    if status in GOOD:
        return Check("stack", f"{name} exists ({status})")
    if status in USABLE:
        return Check(
            "stack", f"{name} was rolled back after a failed update", "See the stack's events, deploy again"
        )
    remedy = (
        "Wait until it ends" if status.endswith("_IN_PROGRESS") else "See the stack's events, deploy again"
    )
    return Check("stack", f"{name} is {status}", remedy)


def preflight(answer: Mapping[str, Any], failed: bool, known: Known) -> list[Check]:
    """Checks the trigger's answer to `{"preflight": true}`. If it `failed`, the answer is Lambda's error."""
    if failed:
        said = f"{answer.get('errorType')}: {answer.get('errorMessage')}"
        return [
            Check("functions", said, "See the log of the trigger, and functions/RUNBOOK.md, Functions fail")
        ]
    if "findings" not in answer:
        return [Check("functions", "The functions do not support the preflight", "Deploy this version")]
    return [
        Check(
            f["check"],
            f["detail"],
            (_by_words(f["detail"]) or _by_reason(f["check"], f["reason"], known)) if f["reason"] else "",
        )
        for f in answer["findings"]
    ]


def _by_words(detail: str) -> str | None:
    return next((remedy for words, remedy in _REMEDIES.items() if words in detail), None)


def _by_reason(check: str, reason: str, known: Known) -> str:
    put = (
        f"aws secretsmanager put-secret-value --region {Links.of(known.secret_arn).region}"
        f" --secret-id {known.secret_arn} --secret-string file://key.txt"
    )
    if known.secret_field:
        put = f"the field {known.secret_field} of {known.secret_arn}"
    match check, reason:
        case "key", "ApiKeyUnavailable" | "ApiKeyMissing":
            return f"Put the key into the secret: {put}"
        case "key", "AwsUnavailable":
            return "Try again later: Secrets Manager does not answer"
        case ("key" | "scopes", _) | (_, "Unauthorised"):
            return f"Create a key with both scopes in Arcanna, and put it into the secret: {put}"
        case "settings", "ConfigurationError":
            return f"Correct the SSM parameter {known.settings_parameter}; its last valid version is in force"
        case "settings", _:
            return "Try again later, or restore ssm:GetParameter in the role of the trigger"
        case "targets", "Rejected":
            return f"Correct the route in the SSM parameter {known.settings_parameter}, or train the job"
        case "targets", "OutOfTime":
            return "None, if the checked targets are fine: Arcanna answers slowly"
        case _, "PlatformUnavailable":
            return f"Check that {known.base_url} is right, Arcanna is up, and the functions can reach it"
    return f"Check that Arcanna answers at {known.base_url}, not a proxy, and that its version is supported"


def bucket(name: str, region: str, notifications: Mapping[str, Any], known: Known) -> Check:
    """Checks that new objects of the bucket with the training data reach the trigger."""
    if "EventBridgeConfiguration" in notifications and region == known.region:
        return Check("bucket", f"{name} sends its events to EventBridge")
    told = [
        arn
        for kind in ("Queue", "Topic", "LambdaFunction")
        for listed in notifications.get(f"{kind}Configurations", [])
        for arn in [listed[f"{kind}Arn"]]
        if any(event.startswith("s3:ObjectCreated:") for event in listed["Events"])
    ]
    if any(arn.partition(":function:")[2].partition(":")[0] == known.trigger for arn in told):
        return Check("bucket", f"{name} notifies the trigger")
    senders = [arn for arn in told if ":sns:" in arn]
    if known.queue_arn in told:
        senders.append(f"arn:{known.queue_arn.split(':')[1]}:s3:::{name}")
    for sender in senders:
        if any(_arn_like(sender, pattern) for pattern in known.senders):
            return Check("bucket", f"{name} notifies the updates queue, as {sender}")
    if senders:
        said = f"{name} notifies {', '.join(told)}, but the updates queue does not accept its messages"
        return Check("bucket", said, f"Add {' or '.join(senders)} to the parameter SenderArns, and deploy")
    if region != known.region:  # only a topic's messages leave their region
        said = f"{name} is in {region}, so its events do not reach this stack in {known.region}"
        remedy = f"Use a bucket in {known.region}, or deploy the stack in {region}"
        return Check("bucket", said, remedy)
    remedy = "S3 console, Properties, Amazon EventBridge: turn it on, or notify the updates queue"
    said = f"{name} sends no events to EventBridge or to this stack: uploads do not start a recompute"
    return Check("bucket", said, remedy)


def _arn_like(arn: str, pattern: str) -> bool:
    """Whether the ARN matches, compared part by part as in the queue's policy.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
    """
    parts, patterns = arn.split(":", 5), pattern.split(":", 5)
    same_form = len(parts) == len(patterns)
    return pattern == "*" or (same_form and all(map(fnmatchcase, parts, patterns)))


def routes(warnings: Sequence[str], known: Known) -> Check:
    """Checks the routes of valid settings. `warnings` are the probable mistakes in them."""
    if not warnings:
        return Check("routes", "Uploads can match every key pattern of the routes")
    remedy = f"Correct the routes in the SSM parameter {known.settings_parameter}"
    return Check("routes", "; ".join(warnings), remedy, warning=True)


def queue(states: Sequence[str]) -> Check:
    """Checks the states of the trigger's event source mappings."""
    if states == ["Enabled"]:
        return Check("queue", "The updates queue invokes the trigger")
    said = f"The updates queue does not invoke the trigger ({', '.join(states) or 'no mapping'})"
    return Check("queue", said, "Lambda console, the trigger, Triggers: enable it")


def schedule(state: str) -> Check:
    """Checks the schedule that requests recomputes of stale metrics."""
    if state == "ENABLED":
        return Check("schedule", "The schedule runs")
    return Check(
        "schedule",
        f"The schedule is {state}",
        "Enable it in the console, or deploy without a ScheduleExpression",
    )


def sweep(state: str) -> Check:
    """Checks the schedule that makes the trigger look at what is due every minute."""
    if state == "ENABLED":
        return Check("sweep", "The sweep looks at what is due every minute")
    said = f"The sweep is {state}: failed attempts are not retried, and dead runs are not resumed"
    return Check("sweep", said, "Enable its schedule in the console")


def index(status: str | None) -> Check:
    """Checks the ledger's index of what is due. `status` is None if it does not exist."""
    if status == "ACTIVE":
        return Check("index", "The ledger's index of what is due can be read")
    if status is None:
        said = "The ledger has no index of what is due, so waiting updates are not found"
        return Check("index", said, "Create the index again, as template.yaml describes it")
    return Check("index", f"The ledger's index of what is due is {status}", "Wait until it is ACTIVE")


def email(address: str, subscriptions: Sequence[Mapping[str, Any]], known: Known) -> Check:
    """Checks who is notified. `address` is the parameter NotificationEmail, and may be empty."""
    subscribe = f"aws sns subscribe --topic-arn {known.topic_arn} --protocol email --notification-endpoint"
    subscriptions = [
        s for s in subscriptions if s["SubscriptionArn"] != "Deleted"
    ]  # SNS lists them for a while
    waiting = [s["Endpoint"] for s in subscriptions if s["SubscriptionArn"] == "PendingConfirmation"]
    if waiting:
        return Check(
            "notifications",
            f"{', '.join(waiting)} is not confirmed",
            "Follow the link in the e-mail that AWS sent to it",
        )
    if address and address not in [s["Endpoint"] for s in subscriptions]:
        # SNS deletes what nobody has confirmed.
        return Check("notifications", f"{address} is not subscribed", f"{subscribe} {address}, and confirm")
    if not subscriptions:
        remedy = f"{known.deploy} EMAIL=you@example.com, or without a clone {subscribe} you@example.com"
        return Check("notifications", "Nobody is notified of failures and regressions", remedy, warning=True)
    return Check("notifications", f"{len(subscriptions)} subscribed to failures and regressions")


def dead_letters(messages: Mapping[str, int]) -> Check:
    """Checks that the dead-letter queue is empty. `messages` are counts by state."""
    if not (count := sum(messages.values())):
        return Check("dead letters", "There are no dead letters")
    said = f"{counted(count, 'message')} could not be understood or delivered"
    return Check("dead letters", said, "arcanna-metrics redrive shows why")


def unseen(what: str, error: Exception) -> Check:
    """A check that failed: the part is missing, the operator may not read it, or AWS does not answer."""
    remedy = "Use credentials that may read it, or try again later"
    if is_missing(error):
        remedy = "Restore it, unless the stack is being deleted"
    return Check(what, f"It could not be checked: {error}", remedy)
