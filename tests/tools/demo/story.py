"""Follows the events in the installation and tells them as they happen."""

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from arcanna_metrics_cli.words import counted
from tests.support.installation import Installation
from tests.tools.demo.view import View


class Story:
    """Reads the functions' logs, the platform's requests and the outcome events in its own thread."""

    def __init__(self, installation: Installation, view: View) -> None:
        self._installation = installation
        self._view = view
        self._read: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="story")
        self.outcomes: list[dict[str, Any]] = []
        self._outcome_queue = self._subscribe()

    def __enter__(self) -> "Story":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _subscribe(self) -> str:
        """Makes a queue that receives the outcome events, as a pipeline would."""
        cloud = self._installation.cloud
        sqs, events = cloud.client("sqs"), cloud.client("events")
        url = sqs.create_queue(QueueName="demo-outcomes")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        ends = {"source": ["arcanna.metrics"], "detail-type": ["Recompute Completed", "Recompute Failed"]}
        events.put_rule(Name="demo-outcomes", EventPattern=json.dumps(ends))
        events.put_targets(Rule="demo-outcomes", Targets=[{"Id": "queue", "Arn": arn}])
        return str(url)

    def _follow(self) -> None:
        while not self._stop.wait(0.1):
            self._tell_logs("TriggerRecomputeFunction", self._trigger_line)
            self._tell_requests()
            self._tell_logs("CheckStatusFunction", self._check_line)
            self._tell_outcomes()

    def _tell_logs(self, function: str, tell: Callable[[Mapping[str, Any]], None]) -> None:
        lines = self._installation.cloud.log_records(function)
        for line in lines[self._read.get(function, 0) :]:
            tell(line)
        self._read[function] = len(lines)

    def _trigger_line(self, line: Mapping[str, Any]) -> None:
        match line.get("message"):
            case "updates recorded":
                self._view.say("record", f"{line['model_id']}: {counted(line['updates'], 'update')}", "cyan")
            case "run started":
                self._view.say("run", f"{line['model_id']}: run {line['run_id'][:8]} started", "blue")
                self._view.state(line["model_id"], "requested")
            case "attempt failed":
                self._view.say("retry", f"{line['model_id']}: {line['reason']}, will be retried", "red")
                self._view.state(line["model_id"], "waits for the next attempt")
            case "no route":
                self._view.say("ignored", f"no route matches {line['key']}", "dim")

    def _check_line(self, line: Mapping[str, Any]) -> None:
        if line.get("message") != "status checked":
            return
        text = f"{line['model_id']}: poll {line['polls']}, {line['detail']}"
        if line["status"] == "running":
            text += f", next check in {line['wait_seconds']} s"
        self._view.say("poll", text, "magenta")
        self._view.state(line["model_id"], f"{line['status']} ({line['detail']})")

    def _tell_requests(self) -> None:
        requests = self._installation.arcanna.requests
        for request in requests[self._read.get("requests", 0) :]:
            if request.endpoint == "recompute":
                self._view.say("POST", f"{request.model_id}: recompute requested", "yellow")
        self._read["requests"] = len(requests)

    def _tell_outcomes(self) -> None:
        sqs = self._installation.cloud.client("sqs")
        received = sqs.receive_message(QueueUrl=self._outcome_queue, MaxNumberOfMessages=10)
        for message in received.get("Messages", []):
            sqs.delete_message(QueueUrl=self._outcome_queue, ReceiptHandle=message["ReceiptHandle"])
            event = json.loads(message["Body"])
            detail = event["detail"]
            self.outcomes.append(event)
            style = "green" if event["detail-type"] == "Recompute Completed" else "red"
            verdict = f", {detail['verdict']}: {detail['why']}" if "verdict" in detail else ""
            self._view.say("outcome", f"{detail['model_id']}: {event['detail-type']}{verdict}", style)
