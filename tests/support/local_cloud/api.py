"""The AWS API of the local cloud: moto, with every call recorded and faults injected."""

import io
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import parse_qsl
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from xml.sax.saxutils import escape

import botocore.session
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

_SIGNING_NAMES = {"monitoring": "cloudwatch", "states": "stepfunctions"}


@dataclass(frozen=True)
class Call:
    """One API call. `role`: name of the caller's role, `environment`: the execution environment it came from.

    `service` is boto3's name of it; `parameters` are the request's, by the names in the API reference,
    without the body of an S3 object.
    """

    time: float
    role: str
    environment: str
    service: str
    operation: str
    parameters: Mapping[str, Any]


def _every(_: Call) -> bool:
    return True


@dataclass
class ApiFault:
    """Calls that match fail `times` times, before or `after` they took effect, and `delay` seconds late.

    With `error` None they succeed, late. `kill` ends the calling execution environment with SIGKILL, so that
    it never sees the answer. `where` narrows down what service, operation and role match. `message` is the
    error's.
    """

    service: str
    operation: str
    error: str | None = None
    status: int = 500
    times: int = 1
    when: Literal["before", "after"] = "before"
    delay: float = 0.0
    kill: bool = False
    role: str | None = None
    where: Callable[[Call], bool] = _every
    message: str = "injected by the test"
    hits: list[Call] = field(default_factory=list)

    def matches(self, call: Call) -> bool:
        return (
            (self.service, self.operation) == (call.service, call.operation)
            and self.role in (None, call.role)
            and len(self.hits) < self.times
            and self.where(call)
        )


class Api:
    """Serves on 127.0.0.1 between `start` and `stop`."""

    def __init__(self, kill: Callable[[str], None], port: int = 0) -> None:
        """`kill` ends the execution environment with that id. Port 0 means a free port."""
        self.calls: list[Call] = []
        self._kill = kill
        self._faults: list[ApiFault] = []
        self._lock = threading.Lock()
        moto = DomainDispatcherApplication(create_backend_app)
        # moto would list its folders at each call.
        moto.get_backend_for_host = cache(moto.get_backend_for_host)  # type: ignore[method-assign]
        self._moto: WSGIApplication = moto
        self._server = make_server(
            "127.0.0.1", port, self._answer, threaded=True, request_handler=_RequestHandler
        )
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def inject(self, fault: ApiFault) -> ApiFault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def record(self, call: Call) -> ApiFault | None:
        """Records a call and returns the fault that strikes it."""
        with self._lock:
            self.calls.append(call)
            fault = next((f for f in self._faults if f.matches(call)), None)
            if fault:
                fault.hits.append(call)
        return fault

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        call = _call(environ)
        fault = self.record(call) if call else None
        if not call or not fault:
            return self._moto(environ, start_response)
        time.sleep(fault.delay)
        if fault.kill and fault.when == "before":
            self._kill(call.environment)
        if fault.when == "after" or (fault.error is None and not fault.kill):
            taken: list[Any] = []
            body = b"".join(self._moto(environ, _capture(taken)))
            if fault.kill:
                self._kill(call.environment)
            if fault.error is None:
                start_response(*taken)
                return [body]
        return _error(call.service, fault, start_response)


class _RequestHandler(MotoRequestHandler):
    disable_nagle_algorithm = True  # headers and body are sent separately, and must not wait for each other

    def log_request(self, *_: object) -> None:
        pass


def _capture(taken: list[Any]) -> StartResponse:
    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], object]:
        taken[:] = status, headers
        return taken.append

    return start_response


def _call(environ: WSGIEnvironment) -> Call | None:
    """The call that a request makes. None if it is not a signed AWS call."""
    credential = re.search(r"Credential=([^/]+)/\d+/[^/]+/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
    if not credential:
        return None
    role, signing_name = credential.groups()
    service = _SIGNING_NAMES.get(signing_name, signing_name)
    body = b""
    if service != "s3" and environ.get("CONTENT_LENGTH"):
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        environ["wsgi.input"] = io.BytesIO(body)
    operation, parameters = _request(service, environ, body)
    environment = environ.get("HTTP_X_AMZ_SECURITY_TOKEN", "")
    return Call(time.time(), role, environment, service, operation, parameters)


def _request(service: str, environ: WSGIEnvironment, body: bytes) -> tuple[str, dict[str, Any]]:
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return target.rpartition(".")[2], json.loads(body or b"{}")
    if body.startswith(b"Action=") or b"&Action=" in body:
        parameters = dict(parse_qsl(body.decode(), keep_blank_values=True))
        return parameters.pop("Action"), parameters
    given = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
    for method, path, query, operation in _rest_operations(service):
        labels = re.fullmatch(path, environ["PATH_INFO"])
        if labels and method == environ["REQUEST_METHOD"] and query <= given.keys():
            document = json.loads(body) if body.startswith(b"{") else {}
            return operation, document | labels.groupdict()
    return environ["REQUEST_METHOD"], given


@cache
def _service_model(service: str) -> Any:
    return botocore.session.get_session().get_service_model(service)


@cache
def _rest_operations(service: str) -> list[tuple[str, str, set[str], str]]:
    """Method, path pattern, query keys, and name. Operations with most query keys come first."""
    found = []
    for name in _service_model(service).operation_names:
        http = _service_model(service).operation_model(name).http
        path, _, query = http["requestUri"].partition("?")
        pattern = re.sub(r"\\{(\w+)(\\\+)?\\}", _label, re.escape(path)) + "/?"
        found.append((http["method"], pattern, set(dict(parse_qsl(query, True))), name))
    return sorted(found, key=lambda operation: -len(operation[2]))


def _label(match: re.Match[str]) -> str:
    return f"(?P<{match[1]}>{'.+' if match[2] else '[^/]+'})"


def _error(service: str, fault: ApiFault, start_response: StartResponse) -> list[bytes]:
    code, message = fault.error or "Killed", fault.message
    if "json" in _service_model(service).protocol:
        content_type = "application/x-amz-json-1.0"
        body = json.dumps({"__type": code, "message": message, "Message": message})
    else:
        content_type = "text/xml"
        body = f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
        if service != "s3":
            body = f"<ErrorResponse>{body}<RequestId>injected</RequestId></ErrorResponse>"
    headers = [
        ("Content-Type", content_type),
        ("Content-Length", str(len(body))),
        ("x-amzn-ErrorType", code),
        ("x-amzn-RequestId", "injected"),  # which moto's Step Functions interpreter requires
    ]
    start_response(f"{fault.status} {HTTPStatus(fault.status).phrase}", headers)
    return [body.encode()]
