"""Which CAs TLS trusts, and which lists of CAs are refused."""

import base64
import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.errors import ConfigurationError
from arcanna_metrics.platform import tls
from arcanna_metrics.platform.connect import arcanna, http_client, parameters
from tests.support.certificates import Authority
from tests.unit.strategies import at_most

CA, OTHER_CA = Authority("One CA").pem, Authority("Another CA").pem
few = at_most(30)  # each makes a context
KEY_BLOCK = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"


def trusted(bundle: str) -> set[str]:
    """The names of the private CAs that are trusted."""
    found = tls.context(bundle).get_ca_certs()
    names = {str(ca["subject"]) for ca in found}
    return {name for name in ("One CA", "Another CA") if any(name in shown for shown in names)}


def wrapped(der: bytes) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(der).decode()}\n-----END CERTIFICATE-----\n"


def test_only_public_cas_are_trusted_without_a_bundle() -> None:
    assert trusted("") == set()
    assert len(tls.context().get_ca_certs()) > 50


def test_folder_of_public_cas_is_used_if_the_build_made_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / tls.HASHED).mkdir()
    monkeypatch.setattr("certifi.where", lambda: str(tmp_path / "cacert.pem"))
    made = tls.context(CA)
    assert len(made.get_ca_certs()) == 1  # the private one: the others are read when they are needed
    assert (made.verify_mode, made.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_ca_bundle_is_trusted_in_addition_to_public_cas() -> None:
    public = len(tls.context().get_ca_certs())
    assert trusted(CA + OTHER_CA) == {"One CA", "Another CA"}
    assert len(tls.context(CA + OTHER_CA).get_ca_certs()) == public + 2


@few
@given(st.lists(st.sampled_from([" ", "\n", "\r\n", "\t", "\\n", "\\r\\n", ""]), min_size=1))
def test_certificate_is_read_with_any_line_ends(ends: list[str]) -> None:
    lines = CA.split("\n")
    assert trusted("".join(line + ends[n % len(ends)] for n, line in enumerate(lines))) == {"One CA"}


@pytest.mark.parametrize(
    ("bundle", "says"),
    [
        ("arn:aws:s3:::bucket/ca.pem", "it contains no certificate"),
        ("https://example.com/ca.pem", "it contains no certificate"),
        ("-----BEGIN CERTIFICATE-----", "cut off"),
        (CA + OTHER_CA[:200], "cut off"),
        (CA[20:], "cut off"),
        (CA + KEY_BLOCK, "such as a private key"),
        (KEY_BLOCK, "such as a private key"),
        (KEY_BLOCK.replace("PRIVATE", "EC PRIVATE"), "such as a private key"),
        (CA.replace("CERTIFICATE", "TRUSTED CERTIFICATE"), "it contains something else"),
        (CA.replace("\n", "\n!", 2), "certificate 1 is not valid"),
        (CA + wrapped(b""), "certificate 2 is not valid"),
        (wrapped(b"secret"), "certificate 1 is not valid"),
    ],
)
def test_invalid_bundle_is_refused_and_not_quoted(bundle: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^ARCANNA_CA_BUNDLE .*must be empty or") as raised:
        tls.context(bundle)
    assert says in str(raised.value)
    assert "c2VjcmV0" not in str(raised.value)


@pytest.fixture
def ca_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the layer's CA file, which does not exist yet."""
    path = tmp_path / "ca.pem"
    monkeypatch.setattr(tls, "CA_FILE", path)
    return path


@pytest.mark.parametrize("text", ["", "\n", f"issuer: One CA\n{CA}\n\n{OTHER_CA}"])
def test_ca_file_of_the_layer_is_trusted_in_addition_to_the_bundle(ca_file: Path, text: str) -> None:
    ca_file.write_text(text)
    third = Authority("Third CA").pem
    public = len(tls.context().get_ca_certs()) - text.count("BEGIN")
    found = tls.context(third)
    assert len(found.get_ca_certs()) == public + 1 + text.count("BEGIN")
    _assert_verifying(found)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"# to be filled in", "it contains no certificate"),
        (bytes(range(256)), "it contains no certificate"),  # DER, which is not text
        (f"{CA}{KEY_BLOCK}".encode(), "such as a private key"),
        (CA[:200].encode(), "cut off"),
    ],
)
def test_error_in_the_ca_file_names_the_file(ca_file: Path, content: bytes, says: str) -> None:
    ca_file.write_bytes(content)
    with pytest.raises(
        ConfigurationError, match=f"^layers/arcanna_metrics/ca.pem must be .*{says}"
    ) as raised:
        tls.context()
    assert "c2VjcmV0" not in str(raised.value)


def test_expired_ca_does_not_prevent_trust_in_its_successor() -> None:
    assert trusted(Authority("Old CA", expired=True).pem + CA) == {"One CA"}


@few
@given(st.text() | st.binary().map(wrapped) | st.text().map(lambda text: CA + text))
def test_any_bundle_is_read_or_a_configuration_error(bundle: str) -> None:
    try:
        context = tls.context(bundle)
    except ConfigurationError:
        return
    _assert_verifying(context)


@pytest.mark.parametrize("bundle", ["", CA])
@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_environment_cannot_disable_or_change_verification(
    monkeypatch: pytest.MonkeyPatch, name: str, bundle: str
) -> None:
    before = tls.context(bundle).get_ca_certs()
    monkeypatch.setenv(name, "/dev/null")
    context = tls.context(bundle)
    assert context.get_ca_certs() == before
    _assert_verifying(context)


def _assert_verifying(context: ssl.SSLContext) -> None:
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("variables", [{}, {"ARCANNA_CA_BUNDLE": CA}, {"HTTPS_PROXY": "http://proxy:3128"}])
def test_one_tls_context_is_shared(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    made = []
    make = ssl.create_default_context

    def counted(*args: Any, **given: Any) -> ssl.SSLContext:
        made.append(given)
        return make(*args, **given)

    monkeypatch.setattr(ssl, "create_default_context", counted)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    env = {
        "ARCANNA_BASE_URL": "https://arcanna.example",
        "ARCANNA_API_KEY_SECRET_ARN": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:key",
        "AWS_REGION": "eu-west-1",
        "URL_SUFFIX": "amazonaws.com",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        **variables,
    }
    http = http_client(env)
    arcanna(env, http)
    parameters(env, http)
    assert len(made) == 1
