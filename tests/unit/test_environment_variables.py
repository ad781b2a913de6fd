"""Environment variables are right, or the error names the variable and what it should be."""

import re

import httpx
import pytest
from botocore.utils import should_bypass_proxies
from hypothesis import assume, given
from hypothesis import strategies as st

from arcanna_metrics.errors import ConfigurationError
from arcanna_metrics.platform.connect import base_url, http_client, mounts
from tests.support.deployment import template

PROXY_URL, NO_PROXY = (template()["Parameters"][name]["AllowedPattern"] for name in ("ProxyUrl", "NoProxy"))
LOOPBACK = {"localhost", "127.0.0.1", "::1"}

# Characters that URL tricks use.
SCHEMES = ["https:", "http:", "HTTPS:"]
HOSTS = ["localhost", "127.0.0.1", "[::1]", "arcanna.example", "evil.example", "user:pass", "xn--", "ä"]
SIGNS = ["//", *"/\\@?#:.[]*< \t\n\x00\u3002", "..", "%2e", "%2f", ":9666", ":99999", "prefix"]
pieces = st.sampled_from([*SCHEMES, *HOSTS, *SIGNS])
url_like = st.lists(pieces, max_size=8).map("".join)
https_urls = st.lists(pieces, max_size=6).map(lambda found: "https://" + "".join(found))


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("https://arcanna.example", "https://arcanna.example"),
        ("https://arcanna.example/", "https://arcanna.example"),
        ("https://arcanna.example:9666", "https://arcanna.example:9666"),
        ("https://arcanna.example/soc/arcanna//", "https://arcanna.example/soc/arcanna"),
        ("https://10.0.0.7:9666", "https://10.0.0.7:9666"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://127.0.0.1:8000/prefix", "http://127.0.0.1:8000/prefix"),
    ],
)
def test_valid_base_url_is_accepted(value: str, address: str) -> None:
    assert base_url(value) == address


@pytest.mark.parametrize(
    "value",
    [
        "arcanna.example",
        "//arcanna.example",
        "ftp://arcanna.example",
        "https://",
        "https:///path",
        "https:arcanna.example",
        # Plain http to anywhere but loopback.
        "http://arcanna.example",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://localhost@evil.example",
        "http://evil.example#localhost",
        # Credentials, query, fragment.
        "https://user@arcanna.example",
        "https://user:password@arcanna.example",
        "https://@arcanna.example",
        "https://arcanna.example?",
        "https://arcanna.example/?next=",
        "https://arcanna.example#",
        # Path tricks.
        "https://arcanna.example/..",
        "https://arcanna.example/a/../b",
        "https://arcanna.example/./b",
        "https://arcanna.example/%2e%2e/b",
        "https://arcanna.example/%2E./b",
        # URLs that parsers read differently.
        "https://arcanna.example\\@evil.example",
        "https://arcanna.example\\.evil.example",
        "https://arcanna example",
        "https://arcanna\texample",
        "https://arcanna.example/\x00",
        "https://ärcanna.example",
        "https://arcanna.example:port",
        "https://arcanna.example:99999",
        "https://arcanna.example:٣",
        "https://[::1",
        "https://[v1.x]",
        "https://arc%61nna.example",
        "https://arcanna<.example",
        "https://XN--",
    ],
)
def test_invalid_base_url_is_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"ARCANNA_BASE_URL|ArcannaBaseUrl"):
        base_url(value)


@given(url_like | https_urls | st.text())
def test_calls_go_to_the_base_url_or_nowhere(value: str) -> None:
    try:
        address = base_url(value)
    except ConfigurationError:
        return
    with httpx.Client(base_url=address, transport=httpx.MockTransport(lambda _: httpx.Response(200))) as http:
        url = http.build_request("GET", "/api/v2/metrics/model").url
    assert url.scheme == "https" or (url.scheme == "http" and url.host in LOOPBACK)
    assert str(url).lower() == address.lower() + "/api/v2/metrics/model"
    assert not url.userinfo


@pytest.mark.parametrize("value", ["", "http://proxy.internal:3128", "https://10.0.0.7:8443/"])
def test_template_accepts_a_valid_proxy(value: str) -> None:
    assert re.fullmatch(PROXY_URL, value)


@pytest.mark.parametrize(
    "value",
    [
        "proxy.internal:3128",
        "http://proxy.internal",
        "socks5://proxy.internal:1080",
        "http://user:password@proxy.internal:3128",
        "http://proxy.internal:3128/path",
        "http://proxy.internal:3128?query",
        "http://[::1:3128",
    ],
)
def test_template_refuses_an_invalid_proxy(value: str) -> None:
    assert not re.fullmatch(PROXY_URL, value)


# --- Hosts that are called without the proxy ---------------------------------------------------------------

PROXY = httpx.MockTransport(lambda _: httpx.Response(502))


@pytest.mark.parametrize(
    ("value", "hosts"),
    [
        ("", ()),
        ("*", ()),
        ("arcanna.internal", ("arcanna.internal",)),
        (".amazonaws.com", ("amazonaws.com",)),
        ("Arcanna.Internal:9666, .a.com ,10.0.0.7", ("arcanna.internal:9666", "a.com", "10.0.0.7")),
        ("127.0.0.1:8443,a-b.c1,7eleven.com", ("127.0.0.1:8443", "a-b.c1", "7eleven.com")),
        ("localhost,xn--zrich-kva.ch", ("localhost", "xn--zrich-kva.ch")),
    ],
)
def test_host_that_both_http_clients_obey_is_accepted(value: str, hosts: tuple[str, ...]) -> None:
    patterns = mounts(PROXY, value).keys() - {"https://"}
    assert patterns == {f"all://{start}{host}" for host in hosts for start in ("", "*")}
    assert re.fullmatch(NO_PROXY, value)


@pytest.mark.parametrize(
    "value",
    [
        "*.corp.internal",
        "a.internal,*corp.internal",
        "host.",
        ".corp.internal.",
        "..corp.internal",
        "arcanna.internal:443",
        "https://arcanna.internal/",
        "https://arcanna.internal:9666",
        "10.20.*",
        "10.20.",
        "10.20",
        "10.0.0.0/8",
        "10.0.0.1-10.0.0.9",
        "10.0.0.256",
        ".10.0.0.7",
        "a b",
        "*,a",
        " *",
        "a,,b",
        "a,",
        " ",
        "a\n",
        "::1",
        "[::1]",
        "host:0",
        "host:",
        "user@host",
        "host/path",
        "a..b",
        "-a.internal",
        "a_b.internal",
        "zürich.ch",
        "<local>",
    ],
)
def test_template_refuses_a_host_that_an_http_client_would_ignore(value: str) -> None:
    assert not re.fullmatch(NO_PROXY, value)


no_proxy_like = st.lists(
    st.sampled_from(
        [*"ab17.,*- :/", "internal", "Host", "10.0.0.7", ", ", ":9666", ":443", ":80", "localhost", "443"]
    ),
    max_size=8,
).map("".join)
URLS = [
    f"https://{host}{port}/path"
    for host in ("a", "host", "b.host", "xhost", "b.a.internal", "internal", "10.0.0.7", "localhost", "a1")
    for port in ("", ":9666", ":80", ":8443")
]


@given(no_proxy_like, st.sampled_from(URLS))
def test_both_http_clients_call_the_same_hosts_directly(value: str, url: str) -> None:
    ports = [int(port) for port in re.findall(r":([0-9]+)", value)]
    assume(re.fullmatch(NO_PROXY, value) and max(ports, default=0) <= 65535)
    by_proxy = mounts(PROXY, value)
    directly = httpx.MockTransport(lambda _: httpx.Response(200))
    with (
        httpx.Client(transport=directly, mounts=by_proxy) as http,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("HTTPS_PROXY", "http://proxy:3128")
        environment.setenv("NO_PROXY", value)
        environment.delenv("no_proxy", raising=False)
        assert (http.get(url).status_code == 200) == should_bypass_proxies(url)


@pytest.mark.parametrize(
    "host",
    ["internal", "b.internal", "10.0.0.7", "localhost:9666", "xn--zrich-kva.ch", "xn--zrich-kva.ch:9666"],
)
def test_accepted_host_is_called_directly(host: str) -> None:
    by_proxy = mounts(PROXY, host)
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200)), mounts=by_proxy) as http:
        assert http.get(f"https://{host}/").status_code == 200
        assert host[0].isdigit() or http.get(f"https://b.{host}/").status_code == 200
        assert http.get("https://elsewhere.example/").status_code == 502


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"HTTPS_PROXY": "http://999.1.1.1:80"},
            r"^'999\.1\.1\.1:80' in the parameter ProxyUrl is not a host: ",
        ),
        ({"HTTPS_PROXY": "http://xn--a:80"}, r"^'xn--a:80' in the parameter ProxyUrl is not a host: "),
        ({"NO_PROXY": "internal,xn--a"}, r"^'xn--a' in the parameter NoProxy is not a host: "),
    ],
)
def test_invalid_host_that_the_template_accepts_is_refused_with_its_parameter(
    variables: dict[str, str], said: str
) -> None:
    given = {"ARCANNA_BASE_URL": "https://a", "HTTPS_PROXY": "http://proxy:3128", **variables}
    assert re.fullmatch(PROXY_URL, given["HTTPS_PROXY"])
    assert re.fullmatch(NO_PROXY, given.get("NO_PROXY", ""))
    with pytest.raises(ConfigurationError, match=said):
        http_client(given)
