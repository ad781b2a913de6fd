"""A package that could not be checked is not reported as clean."""

import pytest

from tests.tools.audit import FILES, ROOT, Finding, audit, findings

CLEAN = Finding("httpx 0.28.1")
VULNERABLE = Finding("h11 0.14.0", ("GHSA-vqfr-h8mv-ghfj (fixed in 0.16.0)",))
UNKNOWN = Finding("idna", unknown="could not be audited")


def test_audit_report_is_read() -> None:
    report = {
        "dependencies": [
            {"name": "httpx", "version": "0.28.1", "vulns": []},
            {
                "name": "h11",
                "version": "0.14.0",
                "vulns": [{"id": "GHSA-vqfr-h8mv-ghfj", "fix_versions": ["0.16.0"]}],
            },
            {"name": "idna", "skip_reason": "could not be audited"},
        ]
    }
    assert findings(report) == [CLEAN, VULNERABLE, UNKNOWN]


@pytest.mark.parametrize(
    ("first", "second", "status", "says"),
    [
        ([CLEAN], [CLEAN, CLEAN], 0, ["deployed: all 1 packages", "tools: all 2 packages"]),
        ([CLEAN], [VULNERABLE, CLEAN], 1, ["tools: VULNERABLE: h11 0.14.0: GHSA-vqfr-h8mv-ghfj"]),
        ([VULNERABLE], [CLEAN, UNKNOWN], 1, ["deployed: VULNERABLE", "tools: NOT CHECKED: 1 of 2"]),
        ([VULNERABLE, UNKNOWN], [CLEAN], 1, ["deployed: VULNERABLE", "deployed: NOT CHECKED"]),
        ([CLEAN, UNKNOWN], [VULNERABLE], 1, ["deployed: NOT CHECKED", "tools: VULNERABLE"]),
        ([CLEAN, UNKNOWN], [CLEAN], 2, ["deployed: NOT CHECKED: 1 of 2", "could not be audited"]),
        ([CLEAN], [UNKNOWN], 2, ["tools: NOT CHECKED: 1 of 1"]),
    ],
)
def test_exit_status_is_that_of_the_worst_finding(
    capsys: pytest.CaptureFixture[str],
    first: list[Finding],
    second: list[Finding],
    status: int,
    says: list[str],
) -> None:
    assert audit(["deployed", "tools"], {"deployed": first, "tools": second}.__getitem__) == status
    said = capsys.readouterr().out
    assert [text for text in says if text not in said] == []


def test_audit_stops_when_the_database_cannot_be_reached(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(["deployed", "tools"], {"deployed": [UNKNOWN]}.__getitem__) == 2
    assert "known vulnerability" not in capsys.readouterr().out


def test_every_file_with_pinned_packages_is_audited() -> None:
    folders = (ROOT / "layers", ROOT / "tests")
    files = [path for folder in folders for path in folder.rglob("*.txt")]
    pinned = {str(path.relative_to(ROOT)) for path in files if "--hash=sha256:" in path.read_text()}
    assert pinned == set(FILES)
