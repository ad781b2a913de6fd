"""Does what the event says: a function for tests."""

import json
import os
import sys
import time
from typing import Any

import boto3
from greeting import greet  # type: ignore[import-not-found]  # the layer brings it


class Refused(Exception):
    """Raised on request."""


def handler(event: dict[str, Any], context: Any) -> Any:
    if "Records" in event:
        return _batch(event["Records"])
    match event["do"]:
        case "raise":
            raise Refused("as told")
        case "exit":
            os._exit(3)
        case "say":
            print(event["what"], flush=True)
            time.sleep(1.9)
        case "sleep":
            time.sleep(event["seconds"])
        case "fill":
            filled = b"x" * event["bytes"]
            time.sleep(1)
            return len(filled)
        case "put":
            table = boto3.client("dynamodb")
            table.put_item(TableName=os.environ["TABLE"], Item={"id": {"S": event["id"]}})
        case "look":
            return {
                "greeting": greet(os.environ["GREETING"]),
                "variables": dict(os.environ),
                "path": sys.path,
            }
    return event | {"pid": os.getpid(), "left": context.get_remaining_time_in_millis()}


def _batch(records: list[dict[str, Any]]) -> Any:
    orders = [json.loads(record["body"]) for record in records]
    print(json.dumps({"batch": [order["name"] for order in orders], "at": time.time()}))
    time.sleep(max(order.get("seconds", 0) for order in orders))
    if any("raise" in order for order in orders):
        raise Refused("as told")
    print(json.dumps({"done": [order["name"] for order in orders], "at": time.time()}))
    failed = [r["messageId"] for r, order in zip(records, orders, strict=True) if "fail" in order]
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
