"""Connections to Arcanna in a company's network: private CA, outbound proxy, base URL with port and prefix.

Client and environment are those of the functions; certificates, proxy and reference server are real.
"""

import json
import socketserver
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import certifi
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ProxyConnectionError, SSLError

from arcanna_metrics.aws import BOUNDED
from arcanna_metrics.errors import (
    ApiKeyUnavailable,
    AwsUnavailable,
    PlatformUnavailable,
    UndocumentedAnswer,
)
from arcanna_metrics.intake.queues import Queues
from arcanna_metrics.platform import tls
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.platform.connect import arcanna, http_client
from arcanna_metrics.platform.http import BoundedClient
from arcanna_metrics.targets import Model, Target, Update
from arcanna_metrics_cli import checks
from tests.support.arcanna import API_KEY, ArcannaServer, Fault, InMemoryAlerts, Job
from tests.support.certificates import Authority, self_signed
from tests.support.connect_proxy import ConnectProxy
from tests.support.deployment import template
from tests.support.serving import serving, url_of

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

UPDATE = Update(Target("1234", None), 1_736_950_000.0, "schedule")

MODEL = Model("1234", "generic-1-1234-model-1747385873.hdf5")
JOBS = {1234: Job("security-alerts", (MODEL.model_id,))}
CA = Authority()
AWS = {
    "AWS_REGION": "eu-west-1",
    "URL_SUFFIX": "amazonaws.com",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "ARCANNA_API_KEY_SECRET_ARN": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:key-AbCdEf",
}
ONE_ATTEMPT = Config(retries={"total_max_attempts": 1}, connect_timeout=5)
CALLS: dict[str, Callable[[Arcanna], object]] = {
    "/api/v2/metrics/model": lambda client: client.metrics(MODEL),
    "/api/v2/metrics/model/request_recompute_metrics": lambda client: client.request_recompute(MODEL),
    "/api/v2/metrics/job": lambda client: client.active_model(MODEL.job_id),
}


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class _Secrets(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"SecretString": API_KEY}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keeps quiet."""


@pytest.fixture(scope="module")
def secrets_manager() -> Iterator[str]:
    """The URL of a Secrets Manager. It is plain http on loopback, so proxy and CA do not matter."""
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), _Secrets)) as server:
        yield url_of(server)


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Callable[..., ArcannaServer]]:
    """Starts a reference server behind TLS. Its certificate is for the given hosts."""
    with ExitStack() as stack:

        def start(*hosts: str, ca: Authority = CA, expired: bool = False, prefix: str = "") -> ArcannaServer:
            certfile, keyfile = ca.issue(tmp_path, *(hosts or ("127.0.0.1",)), expired=expired)
            server = ArcannaServer(JOBS, InMemoryAlerts(), prefix=prefix, certfile=certfile, keyfile=keyfile)
            return stack.enter_context(server)

        yield start


@pytest.fixture
def client(secrets_manager: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Arcanna]]:
    """Makes the functions' client, in an environment with additional variables."""
    opened = ExitStack()

    class Closed(BoundedClient):
        """Anything to close after the test. A function never closes its client."""

        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            opened.callback(self.close)

    monkeypatch.setattr("arcanna_metrics.platform.connect.BoundedClient", Closed)

    def make(base_url: str, **variables: str) -> Arcanna:
        given = {**AWS, "AWS_ENDPOINT_URL": secrets_manager, "ARCANNA_BASE_URL": base_url, **variables}
        for name, value in given.items():
            monkeypatch.setenv(name, value)  # httpx and boto3 read their proxies from there
        return arcanna(given, http_client(given))

    with opened:
        yield make


Platform = Callable[..., ArcannaServer]
Client = Callable[..., Arcanna]

# --- Private CA --------------------------------------------------------------------------------------------


def one_line(pem: str) -> str:
    return " ".join(pem.split("\n"))


@pytest.mark.parametrize(
    "bundle",
    [
        CA.pem,
        Authority("Another CA").pem + CA.pem,
        f"# Our CA\nsubject=CN=A company's CA\n{CA.pem}\n",
        CA.pem.replace("\n", "\r\n"),
        one_line(CA.pem),
        one_line(CA.pem + CA.pem),
        CA.pem.replace("\n", ""),
        CA.pem.replace("\n", "\\n"),
        CA.pem.replace("\n", "\t \n"),
    ],
    ids=["PEM", "two", "comments", "CRLF", "spaces", "twice", "no line ends", "escaped", "mixed"],
)
def test_private_ca_in_the_bundle_is_trusted_however_it_is_formatted(
    platform: Platform, client: Client, bundle: str
) -> None:
    server = platform()
    assert client(server.url, ARCANNA_CA_BUNDLE=bundle).active_model("1234") == MODEL.model_id


def test_private_ca_in_the_layers_file_is_trusted(
    platform: Platform, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, chain = platform(), "".join(Authority(f"CA {n}").pem for n in range(3)) + CA.pem
    assert len(chain) > template()["Parameters"]["CaBundle"]["MaxLength"]
    monkeypatch.setattr(tls, "CA_FILE", tmp_path / "ca.pem")
    with pytest.raises(PlatformUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        client(server.url).active_model("1234")
    tls.CA_FILE.write_text(chain)
    assert client(server.url).active_model("1234") == MODEL.model_id


def remedy(error: PlatformUnavailable) -> str:
    """What the doctor says to do about the error."""
    answer = {"findings": [{"check": "platform", "reason": "PlatformUnavailable", "detail": str(error)}]}
    known = checks.Known("", "", (), "", "", AWS["ARCANNA_API_KEY_SECRET_ARN"], "", "", "", "")
    (check,) = checks.preflight(answer, False, known)
    return check.remedy


def test_self_signed_certificate_in_the_bundle_is_trusted(client: Client, tmp_path: Path) -> None:
    certfile, keyfile = self_signed(tmp_path)
    with ArcannaServer(JOBS, InMemoryAlerts(), certfile=certfile, keyfile=keyfile) as server:
        with pytest.raises(PlatformUnavailable) as raised:
            client(server.url).active_model("1234")
        assert "parameter CaBundle" in remedy(raised.value)
        trusting = client(server.url, ARCANNA_CA_BUNDLE=certfile.read_text())
        assert trusting.active_model("1234") == MODEL.model_id


@pytest.mark.parametrize("variables", [{}, {"ARCANNA_CA_BUNDLE": Authority("Another CA").pem}])
def test_unknown_ca_is_refused_and_the_doctor_has_the_remedy(
    platform: Platform, client: Client, variables: dict[str, str]
) -> None:
    server = platform()
    with pytest.raises(PlatformUnavailable, match="CERTIFICATE_VERIFY_FAILED") as raised:
        client(server.url, **variables).active_model("1234")

    assert "parameter CaBundle" in remedy(raised.value)
    assert server.requests == []


@pytest.mark.parametrize(
    ("host", "expired", "says"),
    [("arcanna.example", False, "IP address mismatch"), ("127.0.0.1", True, "has expired")],
)
def test_certificate_for_another_host_or_expired_is_refused(
    platform: Platform, client: Client, host: str, expired: bool, says: str
) -> None:
    server = platform(host, expired=expired)
    with pytest.raises(PlatformUnavailable, match=says) as raised:
        client(server.url, ARCANNA_CA_BUNDLE=CA.pem).active_model("1234")

    assert "parameter CaBundle" not in remedy(raised.value)  # which would have no effect
    assert server.requests == []


def test_ca_without_modern_extensions_is_trusted(platform: Platform, client: Client) -> None:
    older = Authority(by_the_book=False)
    server = platform(ca=older)
    assert client(server.url, ARCANNA_CA_BUNDLE=older.pem).active_model("1234") == MODEL.model_id


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"])
def test_other_ca_variables_are_ignored(
    platform: Platform, client: Client, tmp_path: Path, name: str
) -> None:
    server = platform()
    trusted = tmp_path / "ca.pem"
    trusted.write_text(CA.pem)
    with pytest.raises(PlatformUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        client(server.url, **{name: str(trusted)}).active_model("1234")


def test_ca_bundle_does_not_affect_boto3(
    platform: Platform, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = platform()
    client(server.url, ARCANNA_CA_BUNDLE=CA.pem).active_model("1234")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    with sqs() as aws, pytest.raises(SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        aws.list_queues()


# --- No way there ------------------------------------------------------------------------------------------


class _Silent(socketserver.BaseRequestHandler):
    """Accepts a request and never answers it."""

    def handle(self) -> None:
        while self.request.recv(4096):
            pass


def test_unreachable_aws_service_is_named_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), _Silent) as gone:
        endpoint = url_of(gone)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    says = f'send messages to a queue: .*"{endpoint}/". In a VPC, the functions need a route to it'
    with sqs(BOUNDED) as aws, pytest.raises(AwsUnavailable, match=says):
        Queues(aws, f"{endpoint}/1/updates", "").request_all([UPDATE])


def test_unanswered_aws_call_is_tried_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    class Counted(_Silent):
        def handle(self) -> None:
            nonlocal asked
            asked += 1
            super().handle()

    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Counted)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url_of(server))
        with sqs(BOUNDED.merge(Config(read_timeout=0.2))) as aws, pytest.raises(AwsUnavailable, match="Read"):
            Queues(aws, "http://127.0.0.1/1/updates", "").request_all([UPDATE])
    assert asked == 3


# --- Outbound proxy ----------------------------------------------------------------------------------------


@contextmanager
def sqs(config: Config = ONE_ATTEMPT) -> Iterator["SQSClient"]:
    with closing(boto3.client("sqs", region_name="eu-west-1", config=config)) as client:
        yield client


def port_of(url: str) -> str:
    return url.split(":")[2].partition("/")[0]


def test_proxy_sees_only_the_destination_of_calls(platform: Platform, client: Client) -> None:
    server = platform("arcanna.internal")
    base_url = f"https://arcanna.internal:{port_of(server.url)}"  # a name that only the proxy can resolve
    with ConnectProxy() as proxy:
        through = client(base_url, ARCANNA_CA_BUNDLE=CA.pem, HTTPS_PROXY=proxy.url)
        for call in CALLS.values():
            call(through)
        (tunnel,) = proxy.tunnels  # one tunnel for all calls
    assert tunnel.to == f"arcanna.internal:{port_of(server.url)}"
    assert [request.path for request in server.requests] == list(CALLS)
    assert all(request.key_is_valid for request in server.requests)
    assert len(tunnel.sent) > 500
    for secret in (API_KEY, "api/v2", MODEL.model_id):
        assert secret.encode() not in tunnel.sent
        assert secret not in tunnel.head


def test_certificate_of_the_proxy_host_is_refused_for_the_platform(
    platform: Platform, client: Client
) -> None:
    server = platform("proxy.example")
    base_url = f"https://arcanna.internal:{port_of(server.url)}"
    with ConnectProxy() as proxy, pytest.raises(PlatformUnavailable, match="Hostname mismatch"):
        client(base_url, ARCANNA_CA_BUNDLE=CA.pem, HTTPS_PROXY=proxy.url).active_model("1234")


@pytest.mark.parametrize(
    ("status", "says"), [(403, "403 Forbidden"), (407, "407 Proxy Authentication"), (502, "502 Bad Gateway")]
)
def test_refusal_of_the_proxy_is_quoted(platform: Platform, client: Client, status: int, says: str) -> None:
    server = platform()
    with ConnectProxy(status) as proxy, pytest.raises(PlatformUnavailable, match=f"ProxyError: {says}"):
        client(server.url, ARCANNA_CA_BUNDLE=CA.pem, HTTPS_PROXY=proxy.url).active_model("1234")
    assert server.requests == []


def test_unreachable_proxy_is_never_bypassed(platform: Platform, client: Client) -> None:
    server = platform()
    with ConnectProxy() as gone:
        pass
    with pytest.raises(PlatformUnavailable, match="ConnectError"):
        client(server.url, ARCANNA_CA_BUNDLE=CA.pem, HTTPS_PROXY=gone.url).active_model("1234")

    assert server.requests == []


@pytest.mark.parametrize(
    ("no_proxy", "tunnels"),
    [
        ("", 1),
        ("localhost", 0),
        (".localhost", 0),
        ("elsewhere.example, localhost", 0),
        ("ocalhost", 1),
        ("*", 0),
    ],
)
def test_host_in_no_proxy_is_called_directly(
    platform: Platform, client: Client, no_proxy: str, tunnels: int
) -> None:
    server = platform("localhost")
    with ConnectProxy() as proxy:
        base_url = f"https://localhost:{port_of(server.url)}"
        client(base_url, ARCANNA_CA_BUNDLE=CA.pem, HTTPS_PROXY=proxy.url, NO_PROXY=no_proxy).active_model(
            "1234"
        )
        assert len(proxy.tunnels) == tunnels
    assert len(server.requests) == 1


def test_plain_http_to_loopback_bypasses_the_proxy(client: Client) -> None:
    with ConnectProxy() as proxy, ArcannaServer(JOBS, InMemoryAlerts()) as server:
        client(server.url, HTTPS_PROXY=proxy.url).active_model("1234")
        assert proxy.tunnels == []
    assert len(server.requests) == 1


def test_secret_is_read_through_the_proxy(client: Client) -> None:
    with ConnectProxy(403) as proxy:
        behind = client("https://arcanna.internal", HTTPS_PROXY=proxy.url, AWS_ENDPOINT_URL="")
        with pytest.raises(AwsUnavailable, match="ProxyError"):
            behind.active_model("1234")
        assert {tunnel.to for tunnel in proxy.tunnels} == {"secretsmanager.eu-west-1.amazonaws.com:443"}


def test_secret_in_another_region_is_read_from_that_region(client: Client) -> None:
    arn = "arn:aws:secretsmanager:us-east-2:210987654321:secret:key-AbCdEf"
    with ConnectProxy(403) as proxy:
        settings = {"AWS_ENDPOINT_URL": "", "ARCANNA_API_KEY_SECRET_ARN": arn}
        behind = client("https://arcanna.internal", HTTPS_PROXY=proxy.url, **settings)
        with pytest.raises(AwsUnavailable, match="ProxyError"):
            behind.active_model("1234")
        assert {tunnel.to for tunnel in proxy.tunnels} == {"secretsmanager.us-east-2.amazonaws.com:443"}


@pytest.mark.parametrize(
    ("no_proxy", "error", "tunnels"),
    [
        ("", ProxyConnectionError, 1),
        ("localhost", SSLError, 0),
        (".localhost", SSLError, 0),
        ("*", SSLError, 0),
    ],
)
def test_boto3_obeys_the_same_proxy_variables(
    platform: Platform,
    monkeypatch: pytest.MonkeyPatch,
    no_proxy: str,
    error: type[BotoCoreError],
    tunnels: int,
) -> None:
    server = platform("localhost")
    with ConnectProxy(403) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", no_proxy)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://localhost:{port_of(server.url)}")
        with sqs() as aws, pytest.raises(AwsUnavailable) as raised:
            Queues(aws, "updates", "dead-letters").request_all([UPDATE])
        assert type(raised.value.__cause__) is error
        assert len(proxy.tunnels) == tunnels


@pytest.mark.parametrize("trusted", [True, False])
def test_https_proxy_is_verified_against_public_cas(
    platform: Platform, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trusted: bool
) -> None:
    server = platform("arcanna.internal")
    public, folder = Authority("A public CA"), tmp_path / "proxy"
    folder.mkdir()
    (folder / "ca.pem").write_text(public.pem)
    with ConnectProxy(certificate=public.issue(folder, "127.0.0.1")) as proxy:
        if trusted:
            monkeypatch.setattr(certifi, "where", lambda: str(folder / "ca.pem"))
        through = client(
            f"https://arcanna.internal:{port_of(server.url)}",
            ARCANNA_CA_BUNDLE=CA.pem,
            HTTPS_PROXY=proxy.url,
        )
        if trusted:
            assert through.active_model("1234") == MODEL.model_id
        else:
            with pytest.raises(PlatformUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
                through.active_model("1234")
        assert len(proxy.tunnels) == trusted

    assert len(server.requests) == trusted


# --- Base URL ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["", "/", "//"])
def test_port_and_path_prefix_of_the_base_url_are_kept(platform: Platform, client: Client, end: str) -> None:
    server = platform(prefix="/soc/arcanna")
    prefixed = client(server.url + end, ARCANNA_CA_BUNDLE=CA.pem)
    for call in CALLS.values():
        call(prefixed)

    assert [request.path for request in server.requests] == [f"/soc/arcanna{path}" for path in CALLS]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(("path", "call"), CALLS.items(), ids=["metrics", "request", "job"])
def test_api_key_is_not_sent_to_redirect_target(
    redirecting: ArcannaServer,
    elsewhere: "Elsewhere",
    client: Client,
    status: int,
    path: str,
    call: Callable[[Arcanna], object],
) -> None:
    redirecting.add_fault(Fault(status=status, headers={"Location": elsewhere.url + path}))
    with pytest.raises(UndocumentedAnswer, match=str(status)):
        call(client(redirecting.url, ARCANNA_CA_BUNDLE=CA.pem))
    assert elsewhere.connections == []


def test_redirect_from_secrets_manager_is_not_followed(elsewhere: "Elsewhere", client: Client) -> None:
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), _Moved)) as moved:
        _Moved.to = elsewhere.url
        with pytest.raises(ApiKeyUnavailable):
            client("https://arcanna.internal", AWS_ENDPOINT_URL=url_of(moved)).active_model("1234")
    assert elsewhere.connections == []


def test_redirect_target_records_connections(elsewhere: "Elsewhere") -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(elsewhere.url)
    assert len(elsewhere.connections) == 1
    elsewhere.connections.clear()


class _Moved(BaseHTTPRequestHandler):
    to: str

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(307)
        self.send_header("Location", self.to)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keeps quiet."""


class Elsewhere(socketserver.ThreadingTCPServer):
    """A server that closes every connection at once and counts them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.connections: list[object] = []
        self.url = url_of(self)

    def process_request(self, request: object, client_address: object) -> None:
        self.connections.append(client_address)
        self.shutdown_request(request)  # type: ignore[arg-type]  # typeshed knows datagrams, too


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    with serving(Elsewhere()) as server:
        yield server


@pytest.fixture(scope="module")
def redirecting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArcannaServer]:
    certfile, keyfile = CA.issue(tmp_path_factory.mktemp("redirecting"), "127.0.0.1")
    with ArcannaServer(JOBS, InMemoryAlerts(), certfile=certfile, keyfile=keyfile) as server:
        yield server


# --- Settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ALL_PROXY", "HTTP_PROXY", "https_proxy", "all_proxy"])
def test_proxy_variables_other_than_https_proxy_are_ignored(
    platform: Platform, client: Client, name: str
) -> None:
    server = platform()
    with ConnectProxy() as proxy:
        client(server.url, ARCANNA_CA_BUNDLE=CA.pem, **{name: proxy.url}).active_model("1234")
        assert proxy.tunnels == []
    assert len(server.requests) == 1
