"""DynamoDB, SQS and Step Functions in memory, to the extent that the protocol needs them.

Anything beyond that raises NotImplementedError, so that nothing is simulated as something that it is not. The
clients have the methods of boto3's that the domain code calls, and make each call through `Outside`, which
lets time pass and things go wrong.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from types import SimpleNamespace
from typing import Any, Protocol, TypeVar

from botocore.exceptions import ClientError

from tests.simulation.workflow import only_known
from tests.support.due_index import PROJECTED

T = TypeVar("T")
Item = dict[str, dict[str, Any]]
Key = tuple[str, str]

UPDATES_URL = "updates"
DEAD_LETTERS_URL = "dead letters"


class Outside(Protocol):
    """Makes the calls of a process to the outside."""

    def __call__(
        self, what: str, effect: Callable[[], T], failure: Callable[[bool], Exception], *, aws: bool = True
    ) -> T:
        """Makes a call. `failure` is told whether the effect has happened or may still happen."""
        ...

    def left_out(self, what: str, number: int) -> set[int]:
        """The items that a partially successful call leaves out."""
        ...


class ConditionalCheckFailed(ClientError):
    """A write refused by its condition."""

    def __init__(self, item: Item) -> None:
        super().__init__({"Error": {"Code": "ConditionalCheckFailedException"}}, "PutItem")
        if item:
            self.response["Item"] = item  # type: ignore[typeddict-unknown-key]  # only this error has it


class ExecutionAlreadyExists(ClientError):
    """An execution of this name has been started before."""

    def __init__(self) -> None:
        super().__init__({"Error": {"Code": "ExecutionAlreadyExists"}}, "StartExecution")


class ExecutionDoesNotExist(ClientError):
    """There is no execution of this name, or it is not visible yet."""

    def __init__(self) -> None:
        super().__init__({"Error": {"Code": "ExecutionDoesNotExist"}}, "DescribeExecution")


def unavailable(operation: str) -> Callable[[bool], ClientError]:
    """The error of an unavailable AWS service."""
    return lambda effect: ClientError({"Error": {"Code": "ServiceUnavailable"}}, operation)


# --- DynamoDB --------------------------------------------------------------------------------------------

PROJECTION = ("job_id", "model_id", "due", "due_at", *PROJECTED)
"""The attributes of an item that the index shows."""

SWAP: Mapping[str, Callable[[Any, Any], bool]] = {
    "rev = :rev": lambda rev, values: rev == values[":rev"],
    "attribute_not_exists(rev)": lambda rev, values: rev is None,
}
"""The condition of a write on the stored `rev`. There are no other conditions."""


class Table:
    """Items by their key, and the index of due entries, which shows a write some time later.

    `lag` returns that time in seconds for each write. `watch` receives the item before and after every write.
    `rewrite` may change a request before it is made; it receives the current item.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        lag: Callable[[], float],
        watch: Callable[[Item, Item], None],
        rewrite: Callable[[dict[str, Any], Item], dict[str, Any]] = lambda request, before: request,
    ) -> None:
        self._clock = clock
        self._lag = lag
        self._watch = watch
        self._rewrite = rewrite
        self._items: dict[Key, Item] = {}
        self._shown: dict[Key, Item] = {}  # the items that the index shows
        self._index: list[tuple[str, Key]] = []
        self._coming: list[tuple[float, int, Item]] = []
        self._count = count()

    def put(self, request: dict[str, Any]) -> dict[str, Any]:
        """PutItem. Raises ConditionalCheckFailed."""
        known = {"TableName", "Item", "ConditionExpression", "ReturnValuesOnConditionCheckFailure"}
        only_known(request, known | {"ExpressionAttributeValues"})
        after: Item = request["Item"]
        before = self.item(after)
        request = self._rewrite(request, before)
        holds = SWAP.get(request.get("ConditionExpression", ""))
        if holds is None or request.get("ReturnValuesOnConditionCheckFailure") != "ALL_OLD":
            raise NotImplementedError(request)
        if not holds(before.get("rev"), request.get("ExpressionAttributeValues")):
            raise ConditionalCheckFailed(before)
        self._items[_key(after)] = after
        heappush(self._coming, (self._clock() + self._lag(), next(self._count), after))
        self._watch(before, after)
        return {}

    def item(self, key: Item) -> Item:
        """The item with this key. Empty if there is none."""
        return self._items.get(_key(key), {})

    def items(self) -> list[Item]:
        """All items."""
        return list(self._items.values())

    def due(self, until: str, after: tuple[str, Key] | None, limit: int | None) -> list[Item]:
        """The entries that the index shows as due by then, from a position on."""
        self._catch_up()
        first = bisect_left(self._index, (*after, "") if after else ("", ("", "")))
        if after and self._index[first : first + 1] == [after]:
            first += 1
        last = len(self._index) if limit is None else first + limit
        return [self._shown[key] for due_at, key in self._index[first:last] if due_at <= until]

    def _catch_up(self) -> None:
        while self._coming and self._coming[0][0] <= self._clock():
            item = heappop(self._coming)[2]
            key, shown = _key(item), self._shown.get(_key(item), {})
            if shown and int(shown["rev"]["N"]) >= int(item["rev"]["N"]):
                continue
            if "due" in shown:
                del self._index[bisect_left(self._index, _place(shown))]
            self._shown[key] = item
            if "due" in item:
                insort(self._index, _place(item))


def _key(item: Item) -> Key:
    return item["job_id"]["S"], item["model_id"]["S"]


def _place(item: Item) -> tuple[str, Key]:
    return item["due_at"]["S"], _key(item)


class DynamoDbClient:
    """boto3's client for one table."""

    exceptions = SimpleNamespace(ConditionalCheckFailedException=ConditionalCheckFailed)

    def __init__(self, table: Table, outside: Outside) -> None:
        self._table = table
        self._outside = outside

    def put_item(self, **request: Any) -> dict[str, Any]:
        return self._outside("PutItem", lambda: self._table.put(request), unavailable("PutItem"))

    def get_item(self, **request: Any) -> dict[str, Any]:
        """A consistent read."""
        only_known(request, {"TableName", "Key", "ConsistentRead"})
        if not request["ConsistentRead"]:
            raise NotImplementedError("a read that is eventually consistent")

        def effect() -> dict[str, Any]:
            item = self._table.item(request["Key"])
            return {"Item": item} if item else {}

        return self._outside("GetItem", effect, unavailable("GetItem"))

    def batch_get_item(self, **request: Any) -> dict[str, Any]:
        """A consistent read, which may be partial."""
        only_known(request, {"RequestItems"})
        ((table, wanted),) = request["RequestItems"].items()
        if not wanted["ConsistentRead"]:
            raise NotImplementedError("a read that is eventually consistent")

        def effect() -> dict[str, Any]:
            keys = wanted["Keys"]
            left_out = self._outside.left_out("BatchGetItem", len(keys))
            read = [self._table.item(key) for n, key in enumerate(keys) if n not in left_out]
            unread = {table: {"Keys": [keys[n] for n in sorted(left_out)]}} if left_out else {}
            return {"Responses": {table: [item for item in read if item]}, "UnprocessedKeys": unread}

        return self._outside("BatchGetItem", effect, unavailable("BatchGetItem"))

    def get_paginator(self, operation: str) -> SimpleNamespace:
        """Scan has one page. Query on the index reads each page when it is requested."""
        pages = {"scan": self._scan, "query": self._query}
        return SimpleNamespace(paginate=pages[operation])

    def _scan(self, **request: Any) -> Iterator[dict[str, Any]]:
        only_known(request, {"TableName", "ProjectionExpression"})
        names = request["ProjectionExpression"].split(", ")

        def effect() -> list[Item]:
            return [_projected(item, names) for item in self._table.items()]

        yield {"Items": self._outside("Scan", effect, unavailable("Scan"))}

    def _query(self, **request: Any) -> Iterator[dict[str, Any]]:
        only_known(
            request,
            {
                "TableName",
                "IndexName",
                "KeyConditionExpression",
                "ExpressionAttributeValues",
                "PaginationConfig",
            },
        )
        values = request["ExpressionAttributeValues"]
        if (request["IndexName"], values[":due"]) != ("due", {"S": "due"}):
            raise NotImplementedError(request)
        until = {"due = :due AND due_at <= :now": ":now", "due = :due": None}[
            request["KeyConditionExpression"]
        ]
        limit = request.get("PaginationConfig", {}).get("PageSize")
        after: tuple[str, Key] | None = None
        while True:

            def effect(after: tuple[str, Key] | None = after) -> list[Item]:
                return self._table.due(values[until]["S"] if until else "9", after, limit)

            what = "Query" if until else "Query for the gauges"
            found = self._outside(what, effect, unavailable("Query"))
            yield {"Items": [_projected(item, PROJECTION) for item in found]}
            if limit is None or len(found) < limit:
                return
            after = _place(found[-1])


def _projected(item: Item, names: Iterable[str]) -> Item:
    return {name: item[name] for name in names if name in item}


# --- SQS -------------------------------------------------------------------------------------------------


@dataclass
class Message:
    """One message; `receives` counts how often it was delivered."""

    number: int
    body: str
    sent_at: float
    visible_at: float
    receives: int = 0

    def record(self) -> dict[str, Any]:
        """The message as Lambda delivers it."""
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

    def send_message_batch(self, *, QueueUrl: str, Entries: Sequence[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803  # boto3's names
        """Some messages may be refused."""

        def effect() -> dict[str, Any]:
            left_out = self._outside.left_out("SendMessageBatch", len(Entries))
            for n, entry in enumerate(Entries):
                if n not in left_out:
                    self._send(QueueUrl, entry["MessageBody"], entry.get("DelaySeconds"), {})
            failed = [{"Id": Entries[n]["Id"], "Code": "InternalError"} for n in sorted(left_out)]
            return {"Failed": failed} if failed else {}

        return self._outside(f"SendMessageBatch to {QueueUrl}", effect, unavailable("SendMessageBatch"))

    def send_message(
        self,
        *,
        QueueUrl: str,  # noqa: N803  # boto3's names
        MessageBody: str,  # noqa: N803
        MessageAttributes: dict[str, Any],  # noqa: N803
    ) -> dict[str, Any]:
        def effect() -> dict[str, Any]:
            self._send(QueueUrl, MessageBody, None, MessageAttributes)
            return {}

        return self._outside(f"SendMessage to {QueueUrl}", effect, unavailable("SendMessage"))


# --- Step Functions --------------------------------------------------------------------------------------

STATE_MACHINE = "arn:aws:states:eu-central-1:123456789012:stateMachine:recompute"
EXECUTIONS = "arn:aws:states:eu-central-1:123456789012:execution:recompute"


class StatesClient:
    """boto3's client.

    `start` takes name and input and raises ExecutionAlreadyExists; `describe` takes a name, gives status and
    input, and raises ExecutionDoesNotExist.
    """

    exceptions = SimpleNamespace(
        ExecutionAlreadyExists=ExecutionAlreadyExists, ExecutionDoesNotExist=ExecutionDoesNotExist
    )

    def __init__(
        self,
        start: Callable[[str, str], None],
        describe: Callable[[str], tuple[str, str]],
        outside: Outside,
    ) -> None:
        self._start = start
        self._describe = describe
        self._outside = outside

    def start_execution(self, *, stateMachineArn: str, name: str, input: str) -> dict[str, Any]:  # noqa: A002, N803
        if stateMachineArn != STATE_MACHINE:
            raise NotImplementedError(stateMachineArn)
        self._outside("StartExecution", lambda: self._start(name, input), unavailable("StartExecution"))
        return {}

    def describe_execution(self, *, executionArn: str) -> dict[str, Any]:  # noqa: N803
        machine, _, name = executionArn.rpartition(":")
        if machine != EXECUTIONS:
            raise NotImplementedError(executionArn)
        status, given = self._outside(
            "DescribeExecution", lambda: self._describe(name), unavailable("DescribeExecution")
        )
        return {"status": status, "input": given}
