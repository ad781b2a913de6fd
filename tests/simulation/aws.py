"""DynamoDB, SQS and Step Functions as far as the protocol needs them, in memory.

The table evaluates the real expressions; anything beyond the few operators that we use raises
NotImplementedError. The clients have the methods of boto3's that the domain code calls, and make each call
through `Outside`, which lets time pass and things go wrong.
"""

import operator
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Protocol, TypeVar

from botocore.exceptions import ClientError

T = TypeVar("T")
Item = dict[str, dict[str, Any]]

UPDATES_URL = "updates"
DEAD_LETTERS_URL = "dead letters"


class Outside(Protocol):
    """How a process calls what is outside of it; `patience` is in seconds, AWS's clients have much of it."""

    def __call__(
        self, what: str, effect: Callable[[], T], failure: Callable[[], Exception], patience: float = 50.0
    ) -> T: ...


class ConditionalCheckFailed(ClientError):
    """A write refused by its condition."""

    def __init__(self, item: Item) -> None:
        super().__init__({"Error": {"Code": "ConditionalCheckFailedException"}}, "UpdateItem")
        self.response["Item"] = item  # type: ignore[typeddict-unknown-key]  # only this error has it


class ExecutionAlreadyExists(ClientError):
    """An execution of this name has been started before."""

    def __init__(self) -> None:
        super().__init__({"Error": {"Code": "ExecutionAlreadyExists"}}, "StartExecution")


def unavailable(operation: str) -> Callable[[], ClientError]:
    """Makes the error of an AWS service in trouble."""
    return lambda: ClientError({"Error": {"Code": "ServiceUnavailable"}}, operation)


# --- DynamoDB --------------------------------------------------------------------------------------------

_TOKEN = re.compile(r"\s*(<=|>=|<>|[<>=(),]|:?\w+)")


class Table:
    """Items by their key.

    `watch` is told of every write what it found and what it left; `rewrite` may change the requests.
    """

    def __init__(
        self,
        watch: Callable[[Item, Item], None],
        rewrite: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> None:
        self._partitions: dict[str, dict[str, Item]] = defaultdict(dict)
        self._watch = watch
        self._rewrite = rewrite

    def update(self, request: dict[str, Any]) -> dict[str, Any]:
        """UpdateItem. Raises ConditionalCheckFailed."""
        request = self._rewrite(request)
        key: Item = request["Key"]
        before = self.item(key)
        values = request.get("ExpressionAttributeValues", {})
        condition = request.get("ConditionExpression")
        if condition and not _Condition(condition, before, values).holds():
            raise ConditionalCheckFailed(before)
        after = _updated(before | key, request["UpdateExpression"], values)
        self._partitions[key["job_id"]["S"]][key["model_id"]["S"]] = after
        self._watch(before, after)
        match request.get("ReturnValues"):
            case "ALL_NEW":
                return {"Attributes": after}
            case "ALL_OLD":
                return {"Attributes": before} if before else {}
            case None:
                return {}
            case other:
                raise NotImplementedError(other)

    def items(self, job_id: str | None = None) -> list[Item]:
        """All items, or those of one partition."""
        if job_id is not None:
            return list(self._partitions[job_id].values())
        return [item for partition in self._partitions.values() for item in partition.values()]

    def item(self, key: Item) -> Item:
        """The item of a key; empty if there is none."""
        return self._partitions[key["job_id"]["S"]].get(key["model_id"]["S"], {})


def _tokens(expression: str) -> list[str]:
    tokens = _TOKEN.findall(expression)
    if "".join(tokens) != re.sub(r"\s", "", expression):
        raise NotImplementedError(expression)
    return tokens


def _updated(item: Item, expression: str, values: Item) -> Item:
    """SET and REMOVE of whole attributes, SET ... = if_not_exists(...), and ADD to sets of strings."""
    after = dict(item)
    clause, tokens = "", [*_tokens(expression), "SET"]
    while len(tokens) > 1:
        if tokens[0] in ("SET", "REMOVE", "ADD"):
            clause = tokens.pop(0)
        name = tokens.pop(0)
        if clause == "SET" and tokens[0] == "=" and tokens[1] in values:
            after[name] = values[tokens[1]]
            del tokens[:2]
        elif clause == "SET" and tokens[:5] == ["=", "if_not_exists", "(", name, ","]:
            after.setdefault(name, values[tokens[5]])
            if tokens[6] != ")":
                raise NotImplementedError(expression)
            del tokens[:7]
        elif clause == "ADD" and tokens[0] in values:
            there = after.get(name, {"SS": []})["SS"]
            after[name] = {"SS": sorted({*there, *values[tokens.pop(0)]["SS"]})}
        elif clause == "REMOVE":
            after.pop(name, None)
        else:
            raise NotImplementedError(expression)
        if tokens[0] == ",":
            del tokens[0]
        elif tokens[0] not in ("SET", "REMOVE", "ADD"):
            raise NotImplementedError(expression)
    return after


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    ">": operator.gt,
    ">=": operator.ge,
    "<>": operator.ne,
}


class _Condition:
    """AND, OR, parentheses, attribute_(not_)exists, and comparisons of an attribute with a value."""

    def __init__(self, expression: str, item: Item, values: Item) -> None:
        self._tokens = _tokens(expression)
        self._expression = expression
        self._item = item
        self._values = values

    def holds(self) -> bool:
        result = self._or()
        if self._tokens:
            raise NotImplementedError(self._expression)
        return result

    def _take(self, *expected: str) -> str:
        token = self._tokens.pop(0)
        if expected and token not in expected:
            raise NotImplementedError(self._expression)
        return token

    def _or(self) -> bool:
        result = self._and()
        while self._tokens[:1] == ["OR"]:
            self._take()
            result = self._and() or result
        return result

    def _and(self) -> bool:
        result = self._term()
        while self._tokens[:1] == ["AND"]:
            self._take()
            result = self._term() and result
        return result

    def _term(self) -> bool:
        word = self._take()
        if word == "(":
            result = self._or()
            self._take(")")
            return result
        if word in ("attribute_exists", "attribute_not_exists"):
            self._take("(")
            name = self._take()
            self._take(")")
            return (name in self._item) is (word == "attribute_exists")
        comparison = self._take(*_OPERATORS)
        left, right = self._item.get(word), self._values[self._take()]
        if left is None or left.keys() != right.keys():
            return False  # also for <>, which needs the attribute to be there
        ((kind, a),), ((_, b),) = left.items(), right.items()
        if kind == "SS" and comparison != "=":
            raise NotImplementedError(self._expression)
        return _OPERATORS[comparison](*((float(a), float(b)) if kind == "N" else (a, b)))


class DynamoDbClient:
    """boto3's client, for one table."""

    exceptions = SimpleNamespace(ConditionalCheckFailedException=ConditionalCheckFailed)

    def __init__(self, table: Table, outside: Outside) -> None:
        self._table = table
        self._outside = outside

    def update_item(self, **request: Any) -> dict[str, Any]:
        return self._outside("UpdateItem", lambda: self._table.update(request), unavailable("UpdateItem"))

    def get_item(self, **request: Any) -> dict[str, Any]:
        return self._outside(
            "GetItem", lambda: {"Item": self._table.item(request["Key"])}, unavailable("GetItem")
        )

    def query(self, **request: Any) -> dict[str, Any]:
        """Of one partition, whose key is the only value of the request."""
        (value,) = request["ExpressionAttributeValues"].values()
        return self._outside(
            "Query", lambda: {"Items": self._table.items(job_id=value["S"])}, unavailable("Query")
        )

    def batch_get_item(self, **request: Any) -> dict[str, Any]:
        ((table, wanted),) = request["RequestItems"].items()

        def effect() -> dict[str, Any]:
            found = [item for key in wanted["Keys"] if (item := self._table.item(key))]
            return {"Responses": {table: found}, "UnprocessedKeys": {}}

        return self._outside("BatchGetItem", effect, unavailable("BatchGetItem"))

    def get_paginator(self, operation: str) -> SimpleNamespace:
        """For Scan, in one page."""
        if operation != "scan":
            raise NotImplementedError(operation)

        def pages(**_: Any) -> list[dict[str, Any]]:
            return [self._outside("Scan", lambda: {"Items": self._table.items()}, unavailable("Scan"))]

        return SimpleNamespace(paginate=pages)


# --- SQS -------------------------------------------------------------------------------------------------


@dataclass
class Message:
    """One message; `receives` counts how often it was delivered."""

    number: int
    body: str
    sent_at: float
    visible_at: float
    attributes: dict[str, Any] = field(default_factory=dict)
    receives: int = 0

    def record(self) -> dict[str, Any]:
        """As Lambda hands it over."""
        return {
            "messageId": f"message-{self.number}",
            "body": self.body,
            "attributes": {"SentTimestamp": str(int(self.sent_at * 1000))},
            "eventSource": "aws:sqs",
        }


class SqsClient:
    """boto3's client; `send` takes url, body, delay in seconds (None for the queue's own) and attributes."""

    def __init__(
        self, send: Callable[[str, str, float | None, dict[str, Any]], None], outside: Outside
    ) -> None:
        self._send = send
        self._outside = outside

    def send_message(
        self,
        *,
        QueueUrl: str,  # noqa: N803  # boto3's names
        MessageBody: str,  # noqa: N803
        DelaySeconds: float | None = None,  # noqa: N803
        MessageAttributes: dict[str, Any] | None = None,  # noqa: N803
    ) -> dict[str, Any]:
        self._outside(
            f"SendMessage to {QueueUrl}",
            lambda: self._send(QueueUrl, MessageBody, DelaySeconds, MessageAttributes or {}),
            unavailable("SendMessage"),
        )
        return {}

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        def send() -> None:
            for entry in Entries:
                attributes = entry.get("MessageAttributes", {})
                self._send(QueueUrl, entry["MessageBody"], entry.get("DelaySeconds"), attributes)

        self._outside(f"SendMessageBatch to {QueueUrl}", send, unavailable("SendMessageBatch"))
        return {}


# --- Step Functions --------------------------------------------------------------------------------------


class StatesClient:
    """boto3's client; `start` takes name and input and raises ExecutionAlreadyExists."""

    exceptions = SimpleNamespace(ExecutionAlreadyExists=ExecutionAlreadyExists)

    def __init__(self, start: Callable[[str, str], None], outside: Outside) -> None:
        self._start = start
        self._outside = outside

    def start_execution(self, *, stateMachineArn: str, name: str, input: str) -> dict[str, Any]:  # noqa: A002, N803
        self._outside("StartExecution", lambda: self._start(name, input), unavailable("StartExecution"))
        return {}
