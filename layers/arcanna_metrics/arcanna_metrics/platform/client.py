"""The Arcanna management API, as far as recomputes need it."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

import httpx

from arcanna_metrics.aws_json import NOTHING_SENT
from arcanna_metrics.errors import BadInput, PlatformUnavailable, Rejected, Unauthorised, UndocumentedAnswer
from arcanna_metrics.observability import logger
from arcanna_metrics.platform.answers import SHOWN, Answer, Call, without_key
from arcanna_metrics.platform.model_metrics import FIELDS, ModelMetrics
from arcanna_metrics.targets import Model, canonical, identifier, is_id

REQUEST_STATUSES = ("queued", "in_progress", "completed", "failed")
LONGEST_TIME = 64
"""Characters of a time that is passed on."""

ApiKey = Callable[[bool], str]
"""Returns the API key; True makes it read the key again."""


class RecomputeRequest(NamedTuple):
    """The platform's answer to a request that it accepted, or that it reports as `failed`.

    `requested_at` is the platform's own time of the request as it was written, perhaps unreadable. `job_id`
    is the job's integer id, even if the request gave the job's name. Both are None if the answer does not
    contain them.
    """

    failed: bool
    requested_at: str | None
    job_id: str | None = None


class Arcanna:
    """A client for one platform. Safe for several threads; keeps its connections.

    Every method raises PlatformUnavailable, UndocumentedAnswer, Unauthorised, ApiKeyUnavailable,
    AwsUnavailable (all RetryLater) or Rejected.
    """

    def __init__(self, http: httpx.Client, api_key: ApiKey) -> None:
        self._http = http
        self._api_key = api_key

    def metrics(self, model: Model) -> ModelMetrics:
        """The model's metrics and whether they are being recomputed."""
        answer = self._call(Call("GET", "/api/v2/metrics/model", model._asdict()))
        body = _without_error(answer)
        timestamp = answer.field(body, "last_recomputed_timestamp", str)
        if (shown := body.get("model_id")) not in (None, "") and str(shown) != model.model_id:
            raise UndocumentedAnswer(f"{answer}: the metrics of another model, {shown!r:.300}")
        return ModelMetrics(
            recomputing=bool(answer.field(body, "is_recomputing_metrics", bool)),
            timestamp=(timestamp or "").strip() or None,
            fields={name: body.get(name) for name in FIELDS},
        )

    def request_recompute(self, model: Model) -> RecomputeRequest:
        """Asks the platform to recompute the model's metrics. Does not wait for the recompute.

        A 2xx without an error in it counts as accepted, whatever else it says. The request has probably taken
        effect, and only the metrics can prove the result. In a RetryLater, `effect_unknown` says whether the
        request may have taken effect.
        """
        path = "/api/v2/metrics/model/request_recompute_metrics"
        answer = self._call(Call("POST", path, model._asdict(), changes=True))
        try:
            body = answer.json_object()
        except UndocumentedAnswer as error:
            logger.warning("undocumented answer to a request, treated as accepted", detail=str(error))
            body = {}
        status = str(body.get("status")).strip().lower()
        if status != "failed" and (status == "error" or _error_in(body, status)):
            raise UndocumentedAnswer(f"{answer}: an error")
        requested_at, job_id = _time(body.get("requested_at")), _job_id(body.get("job_id"))
        return RecomputeRequest(status == "failed", requested_at, job_id)

    def active_model(self, job_id: str) -> str:
        """The id of the model that the job uses now."""
        answer = self._job(job_id)
        model_id: str | None = answer.field(_without_error(answer), "active_model_id", str)
        if not model_id:
            raise Rejected(f"Job {job_id!r} has no active model. Train it, or name a model_id in its route.")
        try:
            return identifier("active_model_id", model_id)
        except BadInput as error:
            raise UndocumentedAnswer(
                f"Arcanna returned an invalid active model id: {error}. {answer}"
            ) from error

    def models(self, job_id: str) -> list[str]:
        """The ids of all models of a job; empty if the platform does not list them."""
        listed = self._job(job_id).json_object().get("all_model_ids")
        return _printable(listed) if isinstance(listed, list) else []

    def job_id_of(self, name: str) -> str | None:
        """The id of the one job with exactly this title.

        None if no job or several jobs have it, or if the platform or the key does not allow the look-up.
        """
        ids = {_job_id(job.get("id")) for job in self._jobs(title=name) if job.get("title") == name}
        return ids.pop() if len(ids) == 1 else None

    def job_names(self) -> list[str]:
        """The ids and names of all jobs; empty if the platform or the key does not allow the listing."""
        names = [name for job in self._jobs() for name in (_job_id(job.get("id")), job.get("title"))]
        return _printable(names)

    def _job(self, job_id: str) -> Answer:
        return self._call(Call("POST", "/api/v2/metrics/job", {"job_id": job_id}, json={}))

    def _jobs(self, **title: str) -> list[dict[str, Any]]:
        """The jobs as the platform lists them: all, or those with a title."""
        call = Call("GET", "/api/v2/resources", {"resource_type": "job", **title})
        try:
            # The key may lack this scope, so 403 is no reason to read the key again.
            listed = self._call(call, refused=(401,)).json()
        except (Unauthorised, Rejected, UndocumentedAnswer):
            return []
        return [job for job in listed if isinstance(job, dict)] if isinstance(listed, list) else []

    def scopes(self) -> list[str]:
        """The scopes of the key. This call changes nothing and needs no scope."""
        answer = self._call(Call("GET", "/api/v2/token/scopes", {}))
        listed = answer.json()
        if isinstance(listed, list) and all(isinstance(s, str) and s.isprintable() for s in listed):
            return listed
        raise UndocumentedAnswer(f"{answer}: not a list of scopes")

    def _call(self, call: Call, refused: Collection[int] = (401, 403)) -> Answer:
        """The answer, of status 2xx. If the key was refused and the secret has changed, calls again."""
        key = self._api_key(False)
        answer = self._send(call, key)
        if answer.status in refused and (fresh := self._api_key(True)) != key:
            answer = self._send(call, fresh)
        answer.raise_for_status()
        return answer

    def _send(self, call: Call, key: str) -> Answer:
        headers = {
            "X-Arcanna-Api-Key": key,
            "Accept": "application/json",
            "Content-Type": "application/json",
        }
        try:
            response = self._http.request(
                call.method, call.path, params=call.params, json=call.json, headers=headers
            )
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # the latter two of odd headers
            # Not `from error`: the transport's errors may quote the request, which contains the key.
            said = without_key(str(error), key)[:SHOWN]
            raise PlatformUnavailable(
                f"Arcanna gave no answer to {call}: {type(error).__name__}: {said}",
                effect_unknown=call.changes and not isinstance(error, NOTHING_SENT),
            ) from None
        return Answer.of(call, response, key)


def _printable(names: Iterable[object]) -> list[str]:
    """The names that cannot break a line or control a terminal."""
    return [name for name in names if isinstance(name, str) and name.isprintable()]


def _without_error(answer: Answer) -> dict[str, Any]:
    """The body of an answer that shows something. An error may come with its fields, which are null then."""
    body = answer.json_object()
    if error := _error_in(body, ""):
        raise UndocumentedAnswer(f"{answer}: an error, {error!r:.300}")
    return body


def _error_in(body: Mapping[str, Any], status: str) -> object:
    """The error in a body, in one of the shapes that parts of the API send with a 200; None if it has none.

    In `{"status", "reason", "reason_details"}`, the reasons are empty if there is no error. Beside a
    documented status, reasons and details only explain it.
    """
    if error := body.get("error") or body.get("error_message"):
        return error
    if status in REQUEST_STATUSES:
        return None
    if isinstance(detail := body.get("detail"), list | str) and detail:
        return detail
    return body.get("reason") or body.get("reason_details")


def _time(value: object) -> str | None:
    """A time as it was written, readable or not; None if the value is no text or too long."""
    return value.strip() if isinstance(value, str) and len(value) <= LONGEST_TIME else None


def _job_id(value: object) -> str | None:
    """A job's integer id in its string form; None if the value is not an id. `1234.0` is an id."""
    text = str(int(value) if isinstance(value, float) and value.is_integer() else value)
    return canonical(text) if is_id(text) and len(text) < 20 else None
