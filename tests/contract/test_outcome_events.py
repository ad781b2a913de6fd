"""The outcome events: the workflow writes what their schemas promise. Real events are in the e2e tests."""

from typing import Any

import pytest

from arcanna_metrics.runs.quality import Difference, Verdict
from arcanna_metrics.runs.run import Cause, Check, Run
from tests.deployment import ROOT, workflow
from tests.outcome_events import SCHEMAS, check_schema

WRITTEN: dict[str, dict[str, Any]] = {
    entry["DetailType"]: entry["Detail"]
    for state in workflow()["States"].values()
    if state.get("Resource", "").endswith("events:putEvents")
    for entry in state["Parameters"]["Entries"]
}


def detail_of(schema: dict[str, Any]) -> dict[str, Any]:
    detail: dict[str, Any] = schema["properties"]["detail"]
    return detail


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one(name: str) -> None:
    check_schema(SCHEMAS[name])


@pytest.mark.parametrize("name", SCHEMAS)
def test_consumers_put_up_with_new_fields_and_the_tests_do_not(name: str) -> None:
    published = (ROOT / "events/schemas" / f"{name}.json").read_text()
    assert "additionalProperties" not in published
    assert detail_of(SCHEMAS[name])["additionalProperties"] is False


def test_every_outcome_has_its_schema_and_no_schema_is_without_one() -> None:
    titles = {name: schema["properties"]["detail-type"]["const"] for name, schema in SCHEMAS.items()}
    assert set(titles.values()) == set(WRITTEN)
    assert all(name == title.lower().replace(" ", "-") for name, title in titles.items())


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_workflow_writes_exactly_the_fields_of_the_schema(name: str) -> None:
    detail = detail_of(SCHEMAS[name])
    written = WRITTEN[SCHEMAS[name]["title"]]
    assert {field.removesuffix(".$") for field in written} == set(detail["required"])
    assert set(detail["required"]) == set(detail["properties"])
    assert written["version"] == detail["properties"]["version"]["const"]


def test_the_words_of_a_verdict_are_those_of_the_code() -> None:
    words = detail_of(SCHEMAS["recompute-completed"])["properties"]["verdict"]["enum"]
    assert tuple(words) == Verdict.__args__  # type: ignore[attr-defined]


@pytest.mark.parametrize(("part", "typed"), [("cause", Cause), ("difference", Difference)])
def test_the_parts_have_the_fields_of_the_code(part: str, typed: Any) -> None:
    for schema in SCHEMAS.values():
        if part in schema["$defs"]:
            assert set(schema["$defs"][part]["required"]) == set(typed.__annotations__)


def test_what_is_written_comes_from_what_is_there() -> None:
    known = {"run": Run.__annotations__, "check": Check.__annotations__}
    for detail in WRITTEN.values():
        for path in (value for name, value in detail.items() if name.endswith(".$")):
            _, part, field, *_ = path.split(".")
            assert path.startswith("$$.") or field in known[part]


def test_a_failure_s_notification_names_a_section_that_the_readme_has() -> None:
    text = workflow()["States"]["NotifyFailed"]["Parameters"]["Message.$"]
    section = text.partition("in the README, under ")[2].partition(".")[0]
    assert f"## {section}" in (ROOT / "README.md").read_text().splitlines()
