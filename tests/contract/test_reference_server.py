"""The reference server keeps the API's contract, and misbehaves exactly as configured."""

import re
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from tests.support.arcanna import (
    API_KEY,
    API_KEY_HEADER,
    READ_SCOPE,
    RECOMPUTE_SCOPE,
    RESOURCES_SCOPE,
    ArcannaServer,
    Behaviour,
    Fault,
    InMemoryAlerts,
    Job,
    KeyInfo,
    S3Alerts,
    corrections,
    labelled_alerts,
)
from tests.support.arcanna.alerts import AlertObject, current_alerts
from tests.support.arcanna.platform import next_timestamp
from tests.support.certificates import self_signed
from tests.support.waiting import eventually

JOB = 1234
MODEL = "generic-1-1234-model-1747385873.hdf5"
OTHER_MODEL = "generic-1-1234-model-1740000000.hdf5"
JOBS = {JOB: Job("security-alerts", (OTHER_MODEL, MODEL)), 99: Job("phishing", ())}
RECOMPUTE = ("POST", "/api/v2/metrics/model/request_recompute_metrics")
METRICS = ("GET", "/api/v2/metrics/model")
JOB_METRICS = ("POST", "/api/v2/metrics/job")
OLD_JOB_METRICS = ("GET", "/api/v2/metrics/job")
JOB_AND_MODEL = ("POST", "/api/v2/metrics/job_and_latest_model")
OLD_JOB_AND_MODEL = ("GET", "/api/v2/metrics/job_and_latest_model")
RESOURCES = ("GET", "/api/v2/resources")
SCOPES = ("GET", "/api/v2/token/scopes")
HEALTH = ("GET", "/api/v2/health/")
OF_A_JOB = [JOB_METRICS, OLD_JOB_METRICS, JOB_AND_MODEL, OLD_JOB_AND_MODEL]
ALL = [RECOMPUTE, METRICS, *OF_A_JOB, RESOURCES, SCOPES, HEALTH]
HEADER = "alert_id,decision,consensus\n"
TRUST_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

# True decisions in rows, predicted ones in columns:   Drop  Escalate
#                                              Drop     2       1
#                                              Escalate 0       1
SMALL = HEADER + "1,Drop,Drop\n2,Drop,Drop\n3,Escalate,Drop\n4,Escalate,Escalate\n5,Escalate,\n"
ACCURACY = {"Drop": 1.0, "Investigate": 0.5, "Escalate": 0.0}


class Caller:
    """An httpx client that knows the model it asks about."""

    def __init__(
        self,
        server: ArcannaServer,
        key: str | None = API_KEY,
        timeout: float = 10,
        verify: ssl.SSLContext = TRUST_NOBODY,
    ) -> None:
        headers = {} if key is None else {API_KEY_HEADER: key}
        self.http = httpx.Client(base_url=server.url, headers=headers, timeout=timeout, verify=verify)

    def call(self, endpoint: tuple[str, str], **query: str) -> httpx.Response:
        self.http.cookies.clear()  # httpx rejects odd ones
        return self.http.request(*endpoint, params={"job_id": str(JOB), "model_id": MODEL, **query})

    def recompute(self, model_id: str = MODEL) -> dict[str, Any]:
        answer: dict[str, Any] = self.call(RECOMPUTE, model_id=model_id).raise_for_status().json()
        return answer

    def metrics(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.call(METRICS).raise_for_status().json()
        return answer


class GatedAlerts(InMemoryAlerts):
    """Holds every recompute at its start, in progress, until the gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.has_been_read = threading.Event()

    def read(self, job_id: int, model_id: str) -> Sequence[AlertObject]:
        objects = super().read(job_id, model_id)
        self.has_been_read.set()
        assert self.gate.wait(10)
        return objects


@pytest.fixture
def alerts() -> InMemoryAlerts:
    return InMemoryAlerts()


@pytest.fixture
def server(alerts: InMemoryAlerts) -> Iterator[ArcannaServer]:
    with ArcannaServer(JOBS, alerts, behaviour=Behaviour(duration=0)) as server:
        yield server


@pytest.fixture(scope="module")
def shared_server() -> Iterator[ArcannaServer]:
    with ArcannaServer(JOBS, InMemoryAlerts(), behaviour=Behaviour(duration=0)) as server:
        yield server


@pytest.fixture
def caller(server: ArcannaServer) -> Iterator[Caller]:
    caller = Caller(server)
    with caller.http:
        yield caller


@pytest.fixture
def gated() -> Iterator[GatedAlerts]:
    alerts = GatedAlerts()
    yield alerts
    alerts.gate.set()


@pytest.fixture
def gated_server(gated: GatedAlerts) -> Iterator[ArcannaServer]:
    with ArcannaServer(JOBS, gated, behaviour=Behaviour(duration=0)) as server:
        yield server
        gated.gate.set()


def until_completed(server: ArcannaServer, count: int = 1) -> None:
    """Waits until that many recomputes have completed."""

    def completed() -> int:
        return [recompute.state for recompute in server.recomputes()].count("completed")

    eventually(f"{count} completed recomputes", lambda: completed() == count)


def times_asked(server: ArcannaServer) -> int:
    return sum(len(run.asks) for run in server.recomputes())


class OnSharedServer:
    """Tests that change only the server's history share one server."""

    @pytest.fixture
    def server(self, shared_server: ArcannaServer) -> Iterator[ArcannaServer]:
        yield shared_server
        shared_server.clear_faults()
        shared_server.set_api_keys({API_KEY: KeyInfo()})


class TestThePage(OnSharedServer):
    def test_request_is_answered_as_in_the_documented_success_example(self, caller: Caller) -> None:
        answer = caller.recompute()

        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", answer.pop("requested_at"))
        assert answer == {
            "message": "Metrics recomputation initiated successfully",
            "job_id": 1234,
            "model_id": "generic-1-1234-model-1747385873.hdf5",
            "status": "queued",
        }

    def test_request_by_job_name_is_answered_with_the_integer_id(self, caller: Caller) -> None:
        assert caller.call(RECOMPUTE, job_id="security-alerts").json()["job_id"] == JOB

    @pytest.mark.parametrize("endpoint", [METRICS, *OF_A_JOB])
    def test_job_can_be_addressed_by_name(self, caller: Caller, endpoint: tuple[str, str]) -> None:
        by_name, by_id = (caller.call(endpoint, job_id=job) for job in ("security-alerts", str(JOB)))
        assert (by_name.status_code, by_name.json()) == (200, by_id.json())

    @pytest.mark.parametrize("endpoint", [RECOMPUTE, METRICS])
    def test_unknown_model_is_answered_as_in_the_documented_404_example(
        self, caller: Caller, endpoint: tuple[str, str]
    ) -> None:
        answer = caller.call(endpoint, model_id="gone.hdf5")

        assert answer.status_code == 404
        assert answer.json() == {
            "error": "Model not found",
            "details": "Model 'gone.hdf5' not found for job '1234'",
        }

    @pytest.mark.parametrize("endpoint", [RECOMPUTE, METRICS, *OF_A_JOB])
    @pytest.mark.parametrize("job_id", ["5", "no-such-job", "01234", "9" * 5000, "²"])
    def test_unknown_job_is_answered_with_404(
        self, caller: Caller, endpoint: tuple[str, str], job_id: str
    ) -> None:
        answer = caller.call(endpoint, job_id=job_id)

        assert answer.status_code == 404
        assert answer.json() == {"error": "Job not found", "details": f"Job '{job_id}' not found"}

    @pytest.mark.parametrize("query", [{"job_id": JOB}, {"job_id": JOB, "model_id": ""}])
    def test_missing_parameter_is_answered_as_in_the_documented_422_example(
        self, caller: Caller, query: dict[str, str]
    ) -> None:
        answer = caller.http.request(*RECOMPUTE, params=query)

        assert answer.status_code == 422
        assert answer.json() == {
            "detail": [{"loc": ["query", "model_id"], "msg": "Model ID is required", "type": "value_error"}]
        }

    def test_422_names_every_missing_parameter(self, caller: Caller) -> None:
        detail = caller.http.request(*RECOMPUTE).json()["detail"]

        assert [found["msg"] for found in detail] == ["Job ID is required", "Model ID is required"]

    def test_job_without_models_has_no_active_model(self, caller: Caller) -> None:
        job = caller.call(JOB_METRICS, job_id="phishing").json()

        assert job["active_model_id"] is None
        assert job["all_model_ids"] == []

    def test_job_metrics_with_an_invalid_date_range_are_refused(self, caller: Caller) -> None:
        assert caller.call(JOB_METRICS, start_datetime="2025-01-15").status_code == 200
        assert caller.call(JOB_METRICS, start_datetime="yesterday").status_code == 422

    def test_openapi_document_lists_exactly_the_api(self, caller: Caller) -> None:
        document = caller.http.get("/openapi.json").json()

        assert {(method.upper(), path) for path, item in document["paths"].items() for method in item} == set(
            ALL
        )
        assert {"200", "401", "403", "404", "422"} <= document["paths"][RECOMPUTE[1]]["post"][
            "responses"
        ].keys()


class TestAccess(OnSharedServer):
    @pytest.mark.parametrize("endpoint", ALL)
    @pytest.mark.parametrize("key", [None, "", "unknown", "expired"])
    def test_missing_or_invalid_key_is_answered_with_401(
        self, server: ArcannaServer, endpoint: tuple[str, str], key: str | None
    ) -> None:
        server.set_api_keys({"expired": KeyInfo(expires_at=time.time() - 1)})
        caller = Caller(server, key)
        with caller.http:
            assert caller.call(endpoint, model_id="even if unknown").status_code == 401

        assert server.requests[-1].key_is_valid is False

    @pytest.mark.parametrize(
        ("endpoint", "scope"),
        [
            (RECOMPUTE, RECOMPUTE_SCOPE),
            (METRICS, READ_SCOPE),
            *((endpoint, READ_SCOPE) for endpoint in OF_A_JOB),
            (RESOURCES, RESOURCES_SCOPE),
        ],
    )
    def test_key_without_the_endpoints_scope_is_answered_with_403(
        self, server: ArcannaServer, caller: Caller, endpoint: tuple[str, str], scope: str
    ) -> None:
        others = {RECOMPUTE_SCOPE, READ_SCOPE, RESOURCES_SCOPE} - {scope}
        server.set_api_keys({API_KEY: KeyInfo(frozenset(others))})
        assert caller.call(endpoint).status_code == 403

        server.set_api_keys({API_KEY: KeyInfo(frozenset({f"{scope}:job:{JOB}"}))})
        assert caller.call(endpoint).status_code == 200

    def test_valid_key_can_list_its_scopes(self, caller: Caller) -> None:
        assert caller.call(SCOPES).json() == [RECOMPUTE_SCOPE, READ_SCOPE]
        assert caller.call(HEALTH).json() == {"status": "OK", "reason": "", "reason_details": ""}

    def test_only_the_new_key_is_valid_after_rotation(self, server: ArcannaServer, caller: Caller) -> None:
        server.set_api_keys({"new": KeyInfo()})

        assert caller.call(METRICS).status_code == 401
        caller.http.headers = httpx.Headers({API_KEY_HEADER.lower(): "new"})
        assert caller.call(METRICS).status_code == 200


class TestFigures:
    def test_metrics_are_null_before_the_first_recompute(self, caller: Caller) -> None:
        assert caller.metrics() == {
            "model_id": MODEL,
            "is_recomputing_metrics": False,
            "last_recomputed_timestamp": None,
            "overall_accuracy": None,
            "overall_f1_score": None,
            "overall_recall": None,
            "overall_precision": None,
            "confusion_matrix": None,
            "metrics_per_decision": {},
            "kb_count_per_decision": {},
            "buckets_in_kb": 0,
        }

    def test_metrics_equal_those_calculated_by_hand(
        self, server: ArcannaServer, caller: Caller, alerts: InMemoryAlerts
    ) -> None:
        alerts.put(JOB, MODEL, "small.csv", SMALL)
        caller.recompute()
        until_completed(server)
        metrics = caller.metrics()

        assert metrics["confusion_matrix"] == [[2, 1], [0, 1]]
        assert metrics["overall_accuracy"] == pytest.approx(3 / 4)
        assert metrics["overall_precision"] == pytest.approx((1 + 1 / 2) / 2)
        assert metrics["overall_recall"] == pytest.approx((2 / 3 + 1) / 2)
        assert metrics["overall_f1_score"] == pytest.approx((4 / 5 + 2 / 3) / 2)
        assert metrics["metrics_per_decision"] == {
            "Drop": {
                "precision": 1.0,
                "recall": pytest.approx(2 / 3),
                "f1_score": pytest.approx(4 / 5),
                "true_positives": 2,
                "true_negatives": 1,
                "false_positives": 0,
                "false_negatives": 1,
            },
            "Escalate": {
                "precision": 0.5,
                "recall": 1.0,
                "f1_score": pytest.approx(2 / 3),
                "true_positives": 1,
                "true_negatives": 2,
                "false_positives": 1,
                "false_negatives": 0,
            },
        }

    def test_metrics_of_alerts_with_a_single_decision_are_defined(
        self, server: ArcannaServer, caller: Caller, alerts: InMemoryAlerts
    ) -> None:
        alerts.put(JOB, MODEL, "a.csv", HEADER + "1,Drop,Drop\n")
        caller.recompute()
        until_completed(server)

        assert caller.metrics()["confusion_matrix"] == [[1]]
        assert caller.metrics()["overall_f1_score"] == 1

    def test_job_metrics_are_those_of_the_active_model(
        self, server: ArcannaServer, caller: Caller, alerts: InMemoryAlerts
    ) -> None:
        alerts.put(JOB, MODEL, "small.csv", SMALL)
        caller.recompute()
        until_completed(server)
        job = caller.http.post(JOB_METRICS[1], params={"job_id": JOB}, json={}).json()

        assert (
            job.items()
            > {
                "active_model_id": MODEL,
                "all_model_ids": [OTHER_MODEL, MODEL],
                "confusion_matrix": [[2, 1], [0, 1]],
                "time_saved_minutes": 3 * 5.0,
                "total_events_in_knowledge_base": 5,
                "total_events_with_consensus": 4,
            }.items()
        )

        server.set_active_model("security-alerts", "newly-trained.hdf5")
        job = caller.call(JOB_METRICS).json()
        assert job["active_model_id"] == "newly-trained.hdf5"
        assert job["confusion_matrix"] is None

    def test_job_metrics_have_every_field_that_the_vendors_client_checks(self, caller: Caller) -> None:
        job = caller.call(JOB_METRICS, start_datetime="2025-01-15", end_datetime="2025-01-16T12:00:00").json()

        assert (job["start_time"], job["end_time"]) == ("2025-01-15T00:00:00", "2025-01-16T12:00:00")
        assert job["total_events"] == 0
        assert job["changed_consensus_after_training"] == {
            "total_events": 0,
            "top_events_ids": [],
            "top_buckets_ids": [],
        }
        without_dates = caller.call(OLD_JOB_METRICS).json()
        assert without_dates == {**job, "start_time": None, "end_time": None}

    def test_combined_answer_has_the_metrics_of_job_and_model(
        self, server: ArcannaServer, caller: Caller, alerts: InMemoryAlerts
    ) -> None:
        alerts.put(JOB, MODEL, "small.csv", SMALL)
        caller.recompute()
        until_completed(server)
        both = caller.call(JOB_AND_MODEL, timeout_s="120").json()

        assert both.pop("active_model_metrics") == caller.metrics()
        assert both == caller.call(JOB_METRICS).json()
        assert caller.call(JOB_AND_MODEL, timeout_s="soon").status_code == 422

    def test_job_without_models_has_metrics_without_a_model(self, caller: Caller) -> None:
        both = caller.call(JOB_AND_MODEL, job_id="phishing").json()
        assert both["active_model_id"] is None
        assert both["active_model_metrics"]["model_id"] is None

    def test_metrics_count_alerts_per_decision_as_floats(
        self, server: ArcannaServer, caller: Caller, alerts: InMemoryAlerts
    ) -> None:
        alerts.put(JOB, MODEL, "small.csv", SMALL)
        caller.recompute()
        until_completed(server)

        assert '"true_positives":2.0' in caller.call(METRICS).text
        assert '"confusion_matrix":[[2,1],[0,1]]' in caller.call(METRICS).text

    def test_metrics_count_buckets_by_the_analysts_decision(
        self, server: ArcannaServer, caller: Caller, alerts: InMemoryAlerts
    ) -> None:
        rows = "1,x,Drop,Drop\n2,x,Escalate,Drop\n3,y,Drop,Escalate\n4,,Drop,Escalate\n"
        alerts.put(JOB, MODEL, "a.csv", "alert_id,bucket,decision,consensus\n" + rows)
        caller.recompute()
        until_completed(server)
        metrics = caller.metrics()

        assert metrics["buckets_in_kb"] == 3
        assert metrics["kb_count_per_decision"] == {
            "Drop": {"alerts_count": 2, "buckets_count": 1},
            "Escalate": {"alerts_count": 2, "buckets_count": 2},
        }

    def test_newest_row_of_an_alert_counts(self) -> None:
        older = AlertObject(1.0, "z.csv", HEADER + "1,Drop,Drop\n2,Drop,Drop\n")
        newer = AlertObject(2.0, "a.csv", HEADER + "1,Drop,Escalate\n")
        same_time = AlertObject(2.0, "b.csv", HEADER + "1,Escalate,Escalate\n")

        found = current_alerts([same_time, newer, older])
        assert [(a.alert_id, a.decision, a.consensus) for a in found] == [
            ("1", "Escalate", "Escalate"),
            ("2", "Drop", "Drop"),
        ]

    @pytest.mark.parametrize("body", ["id,decision\n1,Drop\n", HEADER + "1,Drop\n", HEADER + ",Drop,Drop\n"])
    def test_recompute_over_unreadable_alerts_fails(
        self, server: ArcannaServer, caller: Caller, alerts: InMemoryAlerts, body: str
    ) -> None:
        alerts.put(JOB, MODEL, "broken.csv", body)
        caller.recompute()
        eventually("the end", lambda: server.recomputes()[0].finished_at)

        run = server.recomputes()[0]
        assert run.state == "failed"
        assert "broken.csv" in (run.error or "")
        assert caller.metrics()["last_recomputed_timestamp"] is None
        assert caller.metrics()["is_recomputing_metrics"] is False


class TestMadeUpAlerts:
    def test_made_up_alerts_have_the_given_accuracy(self) -> None:
        found = current_alerts([AlertObject(0, "", labelled_alerts(2000, ACCURACY, seed=7))])

        def accuracy(decision: str) -> float:
            own = [alert.decision == decision for alert in found if alert.consensus == decision]
            return sum(own) / len(own)

        assert len(found) == 2000
        assert accuracy("Drop") == 1
        assert accuracy("Escalate") == 0
        assert 0.4 < accuracy("Investigate") < 0.6

    def test_made_up_alerts_are_the_same_only_for_the_same_seed(self) -> None:
        first, again, other = (labelled_alerts(50, ACCURACY, seed=s) for s in (1, 1, 2))
        assert first == again != other

    @pytest.mark.parametrize(("share", "expected_errors_left"), [(1.0, 0), (0.5, 100), (0.0, 200)])
    def test_corrections_fix_the_given_share_of_wrong_decisions(
        self, share: float, expected_errors_left: int
    ) -> None:
        uncorrected = labelled_alerts(200, dict.fromkeys(ACCURACY, 0.0), seed=1)
        corrected = corrections(uncorrected, share, seed=1)

        objects = [AlertObject(0, "a.csv", uncorrected), AlertObject(1, "b.csv", corrected)]
        left = [a for a in current_alerts(objects) if a.decision != a.consensus]
        assert len(left) == expected_errors_left


class TestAlertsInABucket:
    @pytest.fixture
    def s3(self) -> Iterator[Any]:
        moto = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        moto.start()
        host, port = moto.get_host_and_port()
        client = boto3.client(
            "s3",
            endpoint_url=f"http://{host}:{port}",
            region_name="eu-west-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106  # the local server wants just any
        )
        yield client
        client.close()
        moto.stop()

    def test_recompute_reads_alerts_from_the_models_folder(self, s3: Any) -> None:
        bucket = "alerts"
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        folder = f"training-data/{JOB}/{MODEL}/"
        for key in ("a+b.csv", "ä ö/%2B.csv", "readme.txt"):
            s3.put_object(Bucket=bucket, Key=folder + key, Body=f"{HEADER}{key},Drop,Drop\n")
        s3.put_object(Bucket=bucket, Key=f"training-data/{JOB}/other/a.csv", Body="unrelated")

        with ArcannaServer(JOBS, S3Alerts(s3, bucket), behaviour=Behaviour(duration=0)) as server:
            server.external_recompute(JOB, MODEL)
            until_completed(server)
            s3.put_object(Bucket=bucket, Key=f"{folder}a+b.csv", Body=HEADER + "1,Drop,Drop\n")
            s3.put_object(Bucket=bucket, Key=f"{folder}empty.csv", Body="")
            server.external_recompute(JOB, MODEL)
            until_completed(server, 2)

        assert [run.rows for run in server.recomputes()] == [2, 2]
        assert {a.key for a in S3Alerts(s3, bucket).read(JOB, MODEL)} == {
            folder + key for key in ("a+b.csv", "ä ö/%2B.csv", "empty.csv")
        }

    def test_unreadable_bucket_fails_the_recompute(self, s3: Any) -> None:
        with ArcannaServer(JOBS, S3Alerts(s3, "missing")) as server:
            server.external_recompute(JOB, MODEL)
            eventually("the end", lambda: server.recomputes()[0].finished_at)

        assert server.recomputes()[0].state == "failed"
        assert "NoSuchBucket" in (server.recomputes()[0].error or "")


class TestRecomputes:
    def test_recompute_is_queued_then_in_progress_then_completed(
        self, gated_server: ArcannaServer, gated: GatedAlerts
    ) -> None:
        caller = Caller(gated_server)
        gated_server.set_behaviour(Behaviour(never_starts=True))
        with caller.http:
            caller.recompute()
            assert caller.metrics()["is_recomputing_metrics"] is False
            gated_server.set_behaviour(Behaviour(duration=0))
            eventually("the start", lambda: caller.metrics()["is_recomputing_metrics"])
            assert caller.metrics()["last_recomputed_timestamp"] is None
            gated.gate.set()
            eventually("the end", lambda: not caller.metrics()["is_recomputing_metrics"])
            assert caller.metrics()["last_recomputed_timestamp"] is not None

    def test_recompute_sees_only_uploads_before_its_start(
        self, gated_server: ArcannaServer, gated: GatedAlerts
    ) -> None:
        gated_server.set_behaviour(Behaviour(never_starts=True))
        gated_server.external_recompute(JOB, MODEL)
        gated.put(JOB, MODEL, "while-queued.csv", HEADER + "1,Drop,Drop\n")
        gated_server.set_behaviour(Behaviour(duration=0))
        assert gated.has_been_read.wait(10)
        gated.put(JOB, MODEL, "while-running.csv", HEADER + "2,Drop,Drop\n")
        gated.gate.set()
        until_completed(gated_server)

        (run,) = gated_server.recomputes(MODEL)
        assert (run.rows, run.newest_object) == (1, "while-queued.csv")

    def test_request_joins_a_queued_recompute_and_follows_a_running_one(
        self, gated_server: ArcannaServer, gated: GatedAlerts
    ) -> None:
        caller = Caller(gated_server)
        with caller.http:
            caller.recompute()
            eventually("the start", lambda: caller.metrics()["is_recomputing_metrics"])
            assert caller.recompute()["status"] == "in_progress"
            gated_server.external_recompute(JOB, MODEL)
            gated.gate.set()
            until_completed(gated_server, 2)

        first, second = gated_server.recomputes(MODEL)
        assert [ask.by for ask in first.asks] == ["api"]
        assert [ask.by for ask in second.asks] == ["api", "somebody else"]
        assert first.finished_at is not None
        assert second.started_at is not None
        assert first.finished_at <= second.started_at

    def test_recomputes_of_different_models_run_at_the_same_time(
        self, gated_server: ArcannaServer, gated: GatedAlerts
    ) -> None:
        for model_id in (MODEL, OTHER_MODEL):
            gated_server.external_recompute(JOB, model_id)

        def states() -> list[str]:
            return [run.state for run in gated_server.recomputes()]

        eventually("both starts", lambda: states() == ["in_progress", "in_progress"])

    @pytest.mark.parametrize(
        ("behaviour", "expected"),
        [
            (Behaviour(0.2, 0.2), ["idle", "recomputing", "idle, new"]),
            (
                Behaviour(0.2, 0.2, timestamp_lag=0.2),
                ["idle", "recomputing", "idle", "idle, new"],
            ),
            (
                Behaviour(0.2, 0.2, flag_lag=0.2),
                ["idle", "recomputing", "recomputing, new", "idle, new"],
            ),
            (Behaviour(0.2, 0.2, fails=True), ["idle", "recomputing", "idle"]),
        ],
    )
    def test_metrics_show_the_recompute_as_the_behaviour_says(
        self, server: ArcannaServer, caller: Caller, behaviour: Behaviour, expected: list[str]
    ) -> None:
        server.set_behaviour(behaviour, MODEL)
        caller.recompute()
        seen: list[str] = []

        def observe() -> object:
            metrics = caller.metrics()
            state = "recomputing" if metrics["is_recomputing_metrics"] else "idle"
            state += ", new" if metrics["last_recomputed_timestamp"] else ""
            if seen[-1:] != [state]:
                seen.append(state)
            return server.recomputes()[0].finished_at

        eventually("the end", observe)
        observe()
        assert seen == expected

    def test_behaviour_of_one_model_leaves_others_alone(self, server: ArcannaServer, caller: Caller) -> None:
        server.set_behaviour(Behaviour(never_starts=True), OTHER_MODEL)
        caller.recompute(OTHER_MODEL)
        caller.recompute(MODEL)
        until_completed(server)

        assert [run.state for run in server.recomputes()] == ["queued", "completed"]

    def test_removed_model_is_answered_with_404(
        self, gated_server: ArcannaServer, gated: GatedAlerts
    ) -> None:
        caller = Caller(gated_server)
        with caller.http:
            caller.recompute()
            gated_server.remove_model(JOB, MODEL)
            assert caller.call(METRICS).status_code == 404
            assert caller.call(JOB_METRICS).json()["active_model_id"] is None

    def test_recompute_timestamps_use_the_platforms_clock(self, alerts: InMemoryAlerts) -> None:
        slow_by = timedelta(days=365)
        clock = iter([(datetime.now(UTC) - slow_by).timestamp()] * 2)
        with ArcannaServer(JOBS, alerts, clock=lambda: next(clock)) as server:
            caller = Caller(server)
            with caller.http:
                requested_at = datetime.fromisoformat(caller.recompute()["requested_at"])
                until_completed(server)
                last = datetime.fromisoformat(caller.metrics()["last_recomputed_timestamp"])

        assert last == requested_at
        assert datetime.now(UTC) - last >= slow_by

    @given(st.lists(st.timedeltas(timedelta(0), timedelta(seconds=3)), min_size=2))
    def test_timestamps_increase_in_both_notations(self, pauses: list[timedelta]) -> None:
        now = datetime(2025, 1, 15, 14, 30, tzinfo=UTC)
        timestamps: list[str] = []
        for pause in pauses:
            now += pause
            timestamps.append(next_timestamp(timestamps[-1] if timestamps else None, now))

        moments = [datetime.fromisoformat(timestamp) for timestamp in timestamps]
        assert all(a < b for a, b in pairwise(moments))
        assert all(re.fullmatch(r"[\d-]+T[\d:]+(\.\d+)?Z", timestamp) for timestamp in timestamps)

    def test_timestamps_alternate_with_and_without_fraction(self) -> None:
        now = datetime(2025, 1, 15, 14, 30, 0, 250_000, tzinfo=UTC)
        first = next_timestamp(None, now)
        second = next_timestamp(first, now + timedelta(minutes=1))
        third = next_timestamp(second, now + timedelta(minutes=2))

        assert (first, second, third) == (
            "2025-01-15T14:30:00Z",
            "2025-01-15T14:31:00.250000Z",
            "2025-01-15T14:32:00Z",
        )

    def test_server_stops_during_a_recompute(self, alerts: InMemoryAlerts) -> None:
        hour = 3600.0
        with ArcannaServer(JOBS, alerts, behaviour=Behaviour(duration=hour)) as server:
            server.external_recompute(JOB, MODEL)
            eventually("the start", lambda: server.recomputes()[0].started_at)
        assert server.recomputes()[0].finished_at is None


class TestFaults(OnSharedServer):
    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            (Fault(drop="reset"), httpx.ReadError),
            (Fault(drop="close"), httpx.RemoteProtocolError),
            (Fault(drop="truncate"), httpx.RemoteProtocolError),
        ],
    )
    def test_fault_drops_the_connection(
        self, server: ArcannaServer, caller: Caller, fault: Fault, error: type[Exception]
    ) -> None:
        caller.metrics()
        server.add_fault(fault)

        with pytest.raises(error):
            caller.metrics()
        caller.metrics()  # it strikes once
        first, dropped, last = server.requests[-3:]
        assert (dropped.peer_port, dropped.fault) == (first.peer_port, fault)
        assert dropped.status == (200 if fault.drop == "truncate" else None)
        assert last.peer_port != first.peer_port

    def test_truncating_fault_sends_half_of_the_promised_body(
        self, server: ArcannaServer, caller: Caller
    ) -> None:
        server.add_fault(Fault(drop="truncate", body="x" * 100))
        received = bytearray()

        def read(answer: httpx.Response) -> None:
            for part in answer.iter_raw():
                received.extend(part)

        with caller.http.stream(*HEALTH) as answer:
            with pytest.raises(httpx.RemoteProtocolError):
                read(answer)
            assert answer.headers["content-length"] == "100"
        assert received == b"x" * 50

    @pytest.mark.parametrize("after_effect", [False, True])
    @pytest.mark.parametrize(
        "what", [{"drop": "reset"}, {"drop": "close"}, {"status": 503}, {"body": "<html>"}]
    )
    def test_fault_strikes_before_or_after_the_requests_effect(
        self, server: ArcannaServer, caller: Caller, what: dict[str, Any], after_effect: bool
    ) -> None:
        asked_before = times_asked(server)
        server.add_fault(Fault("recompute", **what, after_effect=after_effect))
        try:
            caller.call(RECOMPUTE)
        except httpx.TransportError:
            assert "drop" in what

        assert times_asked(server) - asked_before == (1 if after_effect else 0)

    @pytest.mark.parametrize("after_effect", [False, True])
    def test_slow_fault_delays_the_answer(self, server: ArcannaServer, after_effect: bool) -> None:
        asked_before = times_asked(server)
        server.add_fault(Fault("recompute", slow=60, after_effect=after_effect))
        caller = Caller(server, timeout=0.2)
        with caller.http, pytest.raises(httpx.ReadTimeout):
            caller.call(RECOMPUTE)

        assert times_asked(server) - asked_before == (1 if after_effect else 0)

    def test_slow_fault_delays_the_real_answer(self, server: ArcannaServer, caller: Caller) -> None:
        server.add_fault(Fault(slow=0.2))
        answer = caller.call(METRICS)

        assert answer.json() == caller.metrics()
        assert answer.elapsed >= timedelta(seconds=0.2)

    def test_fault_changes_or_removes_fields_of_the_real_answer(
        self, server: ArcannaServer, caller: Caller
    ) -> None:
        asked_before = times_asked(server)
        server.add_fault(Fault(fields={"status": "pondering", "job_id": None}, without=("requested_at",)))

        assert caller.recompute() == {
            "message": "Metrics recomputation initiated successfully",
            "job_id": None,
            "model_id": MODEL,
            "status": "pondering",
        }
        assert times_asked(server) - asked_before == 1

    def test_fault_strikes_only_its_endpoint_and_model(self, server: ArcannaServer, caller: Caller) -> None:
        server.add_fault(Fault("metrics", OTHER_MODEL, status=500))
        statuses = [
            caller.call(RECOMPUTE, model_id=OTHER_MODEL).status_code,
            caller.call(METRICS).status_code,
            caller.call(METRICS, model_id=OTHER_MODEL).status_code,
        ]
        assert statuses == [200, 200, 500]

    def test_fault_strikes_as_often_as_it_says(self, server: ArcannaServer, caller: Caller) -> None:
        server.add_fault(Fault(status=503, skip=1, every=2, times=2))
        assert [caller.call(HEALTH).status_code for _ in range(7)] == [
            200, 503, 200, 503, 200, 200, 200,
        ]  # fmt: skip

    def test_fault_without_a_count_stays_until_cleared(self, server: ArcannaServer, caller: Caller) -> None:
        server.add_fault(Fault(status=503, times=None))
        assert {caller.call(HEALTH).status_code for _ in range(3)} == {503}
        server.clear_faults()
        assert caller.call(HEALTH).status_code == 200

    def test_removed_fault_leaves_the_others(self, server: ArcannaServer, caller: Caller) -> None:
        fault = Fault(status=503, times=None)
        server.add_fault(fault)
        server.add_fault(Fault(status=429, times=None))
        assert caller.call(HEALTH).status_code == 503
        server.remove_fault(fault)
        assert caller.call(HEALTH).status_code == 429


class TestControlOverHttp:
    def test_control_over_http_does_what_the_methods_do(self, server: ArcannaServer) -> None:
        caller = Caller(server)
        model = {"job_id": JOB, "model_id": MODEL}
        with caller.http as http, httpx.Client(base_url=f"{server.url}/_reference") as control:

            def told(method: str, path: str, **request: Any) -> None:
                assert control.request(method, path, **request).status_code == 204

            told("POST", "/faults", json={"endpoint": "health", "status": 503, "times": None})
            assert caller.call(HEALTH).status_code == 503
            told("DELETE", "/faults")
            assert caller.call(HEALTH).status_code == 200

            told("PUT", "/behaviour", json={"fails": True}, params={"model_id": MODEL})
            told("POST", "/recomputes", params=model)
            eventually("the failure", lambda: control.get("/recomputes").json()[0]["state"] == "failed")

            told("PUT", "/active_model", params=model | {"model_id": "new.hdf5"})
            assert caller.call(JOB_METRICS).json()["active_model_id"] == "new.hdf5"
            told("DELETE", "/model", params=model)
            assert caller.call(METRICS).status_code == 404
            told("PUT", "/api_keys", json={"another": {"scopes": []}})
            assert http.request(*HEALTH).status_code == 401
        assert all("_reference" not in request.path for request in server.requests)


class TestResources(OnSharedServer):
    @pytest.fixture(autouse=True)
    def _key_may_read_them(self, server: ArcannaServer) -> None:
        server.set_api_keys({API_KEY: KeyInfo(frozenset({RESOURCES_SCOPE}))})

    def found(self, caller: Caller, **query: str) -> Any:
        return caller.http.request(*RESOURCES, params=query).raise_for_status().json()

    def test_resources_list_jobs_with_ids_and_titles(self, caller: Caller) -> None:
        security, phishing = {"id": JOB, "title": "security-alerts"}, {"id": 99, "title": "phishing"}
        assert self.found(caller) == self.found(caller, resource_type="job") == [security, phishing]
        assert self.found(caller, resource_type="job", title="phishing") == [phishing]

    @pytest.mark.parametrize(
        "query", [{"title": "unknown"}, {"title": "PHISHING"}, {"resource_type": "integration"}]
    )
    def test_unknown_title_lists_no_resources(self, caller: Caller, query: dict[str, str]) -> None:
        assert self.found(caller, **query) == []

    def test_unknown_resource_type_is_refused(self, caller: Caller) -> None:
        assert caller.http.request(*RESOURCES, params={"resource_type": "dream"}).status_code == 422

    def test_default_key_may_not_list_resources(self, server: ArcannaServer, caller: Caller) -> None:
        server.set_api_keys({API_KEY: KeyInfo()})
        assert caller.call(RESOURCES).status_code == 403


class TestOddAnswers:
    @pytest.fixture(autouse=True)
    def _server_is_odd(self, server: ArcannaServer) -> None:
        server.set_behaviour(Behaviour(duration=0, odd=True))

    def test_odd_answer_has_a_byte_order_mark_and_gateway_headers(self, caller: Caller) -> None:
        for endpoint in ALL:
            answer = caller.call(endpoint)
            assert answer.content.startswith(b"\xef\xbb\xbf")
            owners = [value for name, value in answer.headers.raw if name.lower() == b"x-owner"]
            assert owners == [b"Z\xfcrich", b"Z\xc3\xbcrich"]

    def test_odd_model_answers_a_request_with_202_and_a_float_id(self, caller: Caller) -> None:
        answer = caller.call(RECOMPUTE, job_id="security-alerts")
        assert (answer.status_code, answer.json()["job_id"]) == (202, 1234.0)
        assert '"job_id": 1234.0' in answer.text

    def test_odd_model_shows_unset_times_as_empty_and_undefined_scores_as_nan(self, caller: Caller) -> None:
        metrics = caller.metrics()
        assert metrics["last_recomputed_timestamp"] == ""
        assert str(metrics["overall_precision"]) == "nan"
        both = caller.call(JOB_AND_MODEL).json()
        assert both["start_time"] == both["active_model_metrics"]["last_recomputed_timestamp"] == ""

    def test_odd_model_shows_undefined_scores_and_their_means_as_nan(
        self, server: ArcannaServer, caller: Caller, alerts: InMemoryAlerts
    ) -> None:
        alerts.put(JOB, MODEL, "never-escalated.csv", HEADER + "1,Drop,Drop\n2,Drop,Escalate\n")
        caller.recompute()
        until_completed(server)
        metrics = caller.metrics()

        assert str(metrics["metrics_per_decision"]["Escalate"]["precision"]) == "nan"
        assert metrics["metrics_per_decision"]["Escalate"]["recall"] == 0
        assert str(metrics["overall_precision"]) == "nan"
        assert metrics["overall_recall"] == 0.5
        assert '"confusion_matrix": [[1.0, 0.0], [1.0, 0.0]]' in caller.call(METRICS).text

    def test_odd_model_has_documented_error_messages(self, caller: Caller) -> None:
        answer = caller.call(METRICS, model_id="gone.hdf5")
        assert (answer.status_code, answer.json()["error"]) == (404, "Model not found")

    def test_only_odd_models_get_odd_answers(self, server: ArcannaServer, caller: Caller) -> None:
        server.set_behaviour(Behaviour(), OTHER_MODEL)
        assert caller.call(METRICS, model_id=OTHER_MODEL).json()["last_recomputed_timestamp"] is None
        assert caller.call(METRICS).json()["last_recomputed_timestamp"] == ""

    def test_fault_can_edit_an_odd_answer(self, server: ArcannaServer, caller: Caller) -> None:
        server.add_fault(Fault(fields={"model_id": "other.hdf5"}))
        assert caller.metrics()["model_id"] == "other.hdf5"


class TestNetwork:
    def test_server_serves_under_a_path_prefix(self, alerts: InMemoryAlerts) -> None:
        with ArcannaServer(JOBS, alerts, prefix="/arcanna") as server:
            caller = Caller(server)
            with caller.http as http:
                assert caller.recompute()["status"] == "queued"
                assert http.get(server.url.replace("/arcanna", HEALTH[1])).status_code == 404
        assert [request.endpoint for request in server.requests] == ["recompute"]

    def test_requests_over_one_connection_share_a_peer_port(self, server: ArcannaServer) -> None:
        first, second = Caller(server), Caller(server)
        with first.http, second.http:
            for caller in (first, first, second):
                caller.metrics()
        a, b, c = (request.peer_port for request in server.requests)

        assert a == b != c

    def test_server_serves_tls_with_a_private_certificate(
        self, alerts: InMemoryAlerts, tmp_path: Path
    ) -> None:
        certificate, key = self_signed(tmp_path)
        with ArcannaServer(JOBS, alerts, certfile=certificate, keyfile=key) as server:
            caller = Caller(server, verify=ssl.create_default_context(cafile=certificate))
            with caller.http:
                caller.metrics()
                server.add_fault(Fault(drop="reset"))
                with pytest.raises(httpx.TransportError):
                    caller.metrics()
            distrustful = Caller(server)
            with distrustful.http, pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY"):
                distrustful.metrics()
