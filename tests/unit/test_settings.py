"""Settings are right, or the error names the variable and what it should be."""

from collections.abc import Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.errors import ConfigurationError
from arcanna_metrics.settings import Environment, PollSettings, RetrySettings

LOOPBACK = {"localhost", "127.0.0.1", "::1"}
POLLS = {"SHORTEST_POLL_SECONDS": "5", "LONGEST_POLL_SECONDS": "900", "START_GRACE_SECONDS": "600"}
RETRIES = {"RETRY_INTERVAL_SECONDS": "5", "RETRY_MAXIMUM_SECONDS": "300", "GIVE_UP_SECONDS": "21600"}

# What tricks with URLs are made of.
SCHEMES = ["https:", "http:", "HTTPS:"]
HOSTS = ["localhost", "127.0.0.1", "[::1]", "arcanna.example", "evil.example", "user:pass", "xn--", "ä"]
SIGNS = ["//", *"/\\@?#:.[]*< \t\n\x00\u3002", "..", "%2e", "%2f", ":9666", ":99999", "prefix"]
pieces = st.sampled_from([*SCHEMES, *HOSTS, *SIGNS])
url_like = st.lists(pieces, max_size=8).map("".join)
https_urls = st.lists(pieces, max_size=6).map(lambda found: "https://" + "".join(found))


@pytest.mark.parametrize("variables", [{}, {"NAME": ""}, {"NAME": " \n"}])
@pytest.mark.parametrize("read", [Environment.text, Environment.seconds, Environment.base_url])
def test_an_empty_variable_is_named(
    read: Callable[[Environment, str], object], variables: dict[str, str]
) -> None:
    with pytest.raises(ConfigurationError, match="NAME is not set"):
        read(Environment(variables), "NAME")


def test_a_variable_is_stripped() -> None:
    assert Environment({"NAME": " value\n"}).text("NAME") == "value"


@given(st.integers(0, 10**9))
def test_whole_seconds_are_read(seconds: int) -> None:
    assert Environment({"NAME": str(seconds)}).seconds("NAME") == seconds


@pytest.mark.parametrize("value", ["-1", "1.5", "1e3", "five", "0x10", "٣", "²", "1_000", "nan", "inf"])
def test_anything_else_is_no_number_of_seconds(value: str) -> None:
    with pytest.raises(ConfigurationError, match="NAME must be a whole number, not"):
        Environment({"NAME": value}).seconds("NAME")


@pytest.mark.parametrize(
    ("value", "base_url"),
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
def test_base_urls_that_are_good(value: str, base_url: str) -> None:
    assert Environment({"NAME": value}).base_url("NAME") == base_url


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
        # What different parsers read differently.
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
    ],
)
def test_base_urls_that_are_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match="NAME"):
        Environment({"NAME": value}).base_url("NAME")


@given(url_like | https_urls | st.text())
def test_calls_go_where_the_base_url_says_or_nowhere(value: str) -> None:
    try:
        base_url = Environment({"NAME": value}).base_url("NAME")
    except ConfigurationError:
        return
    with httpx.Client(
        base_url=base_url, transport=httpx.MockTransport(lambda _: httpx.Response(200))
    ) as http:
        url = http.build_request("GET", "/api/v2/metrics/model").url
    assert url.scheme == "https" or (url.scheme == "http" and url.host in LOOPBACK)
    assert str(url).lower() == base_url.lower() + "/api/v2/metrics/model"
    assert not url.userinfo


@pytest.mark.parametrize("value", ["", " ", "http://proxy.internal:3128", "https://10.0.0.7:8443/"])
def test_proxies_that_are_good(value: str) -> None:
    assert Environment({"NAME": value}).proxy_url("NAME") == (value.strip() or None)


@pytest.mark.parametrize(
    "value",
    [
        "proxy.internal:3128",
        "http://proxy.internal",
        "socks5://proxy.internal:1080",
        "http://user:password@proxy.internal:3128",
        "http://proxy.internal:3128/path",
        "http://proxy.internal:3128?query",
        "http://proxy.internal:99999",
        "http://[::1:3128",
    ],
)
def test_proxies_that_are_refused(value: str) -> None:
    with pytest.raises(ConfigurationError, match="NAME") as raised:
        Environment({"NAME": value}).proxy_url("NAME")
    assert "password" not in str(raised.value)


def test_poll_settings_are_read() -> None:
    assert PollSettings.of(Environment(POLLS)) == PollSettings(shortest=5, longest=900, start_grace=600)


@pytest.mark.parametrize(("shortest", "longest"), [("0", "900"), ("901", "900")])
def test_poll_settings_that_contradict_each_other_are_refused(shortest: str, longest: str) -> None:
    variables = {**POLLS, "SHORTEST_POLL_SECONDS": shortest, "LONGEST_POLL_SECONDS": longest}
    with pytest.raises(ConfigurationError, match="SHORTEST_POLL_SECONDS must be"):
        PollSettings.of(Environment(variables))


def test_retry_settings_are_read() -> None:
    assert RetrySettings.of(Environment(RETRIES)) == RetrySettings(
        interval=5, maximum=300, give_up_after=21600
    )


@pytest.mark.parametrize("missing", [*POLLS, *RETRIES])
def test_a_missing_setting_is_named(missing: str) -> None:
    variables = {name: value for name, value in {**POLLS, **RETRIES}.items() if name != missing}
    with pytest.raises(ConfigurationError, match=missing):
        (PollSettings if missing in POLLS else RetrySettings).of(Environment(variables))
