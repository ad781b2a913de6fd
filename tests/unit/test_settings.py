"""Settings documents: their meaning, and errors that name the place and the allowed values."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError, validators  # type: ignore[import-untyped]  # has no types

from arcanna_metrics.errors import ConfigurationError
from arcanna_metrics.intake.events import AllTargets
from arcanna_metrics.intake.routes import DEFAULT_ROUTES
from arcanna_metrics.runs.quality import DEFAULT_GATE
from arcanna_metrics.settings import Pace, Settings, parse_settings
from arcanna_metrics.targets import Target, Update
from tests.support.deployment import ROOT
from tests.unit.strategies import any_json

SCHEMA = json.loads((ROOT / "events/schemas/settings.schema.json").read_text())


def parse(document: object) -> Settings:
    return parse_settings(json.dumps(document))


def problems(document: object) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        parse(document)
    return list(refused.value.problems)


# --- What settings mean ----------------------------------------------------------------------------------


def test_empty_document_has_all_defaults() -> None:
    settings = parse({})
    assert settings.for_job("1234") == (Pace(), DEFAULT_GATE)
    assert settings.routes == parse({"routes": DEFAULT_ROUTES}).routes
    assert settings.routes.match("training-data/1234/m1/a.csv")[1] == [Target("1234", "m1")]
    assert settings.routes.match("training-data/1234/a.csv")[1] == [Target("1234", None)]


def test_given_fields_replace_the_defaults_one_by_one() -> None:
    settings = parse({"pace": {"spacing_seconds": 60}, "quality_gate": {"floor": {"overall_accuracy": 0.8}}})
    pace, gate = settings.for_job("1234")
    assert pace == replace(Pace(), spacing=60)
    assert gate == DEFAULT_GATE | {"floor": {"overall_accuracy": 0.8}}


def test_override_replaces_its_fields_for_that_job_only() -> None:
    settings = parse(
        {
            "pace": {"spacing_seconds": 60, "deadline_seconds": 500},
            "quality_gate": {"minimum_samples": 5},
            "jobs": {"1234": {"pace": {"spacing_seconds": 0}, "quality_gate": {"largest_drop": {}}}, "7": {}},
        }
    )
    assert settings.for_job("1234").pace == replace(Pace(), spacing=0, deadline=500)
    assert settings.for_job("1234").gate == DEFAULT_GATE | {"minimum_samples": 5, "largest_drop": {}}
    for other in ("7", "12345", "a name"):
        assert settings.for_job(other).pace == replace(Pace(), spacing=60, deadline=500)
        assert settings.for_job(other).gate == DEFAULT_GATE | {"minimum_samples": 5}


def test_job_is_the_same_with_leading_zeros() -> None:
    settings = parse({"jobs": {"0012": {"pace": {"spacing_seconds": 9}}}})
    assert settings.for_job(Target.of("0012", None).job_id).pace.spacing == 9
    assert settings.for_job(Target.of(12, None).job_id).pace.spacing == 9


def test_job_that_is_given_twice_is_refused() -> None:
    assert problems({"jobs": {"12": {}, "0012": {}}}) == ["jobs.0012 is job 12, which is there already"]


def test_visibility_lag_is_the_queues_unless_the_document_sets_it() -> None:
    document = json.dumps({"jobs": {"7": {"pace": {"visibility_lag_seconds": 3600}}}})
    settings = parse_settings(document, visibility_lag=90)
    assert settings.for_job("1234").pace.visibility_lag == 90
    assert settings.for_job("7").pace.visibility_lag == 3600


def test_document_with_an_editors_additions_is_read() -> None:
    assert parse_settings('\ufeff{"$schema": "settings.schema.json",\r\n "pace": {"slots": 4.0}}\r\n') == (
        parse({"pace": {"slots": 4}})
    )


# --- Schedules -------------------------------------------------------------------------------------------

NIGHTLY = {"name": "nightly", "targets": [{"job_id": "security-alerts"}, {"job_id": 1234, "model_id": "m1"}]}


def test_fully_named_target_is_fixed_once() -> None:
    assert parse({"routes": [*DEFAULT_ROUTES, NIGHTLY, NIGHTLY]}).routes.fixed_targets() == [
        Target("security-alerts", None),
        Target("1234", "m1"),
    ]


@pytest.mark.parametrize(
    ("age", "stale_after", "wished"), [(3600.0, 60, 3600.0), (None, 60, 60), (0.0, 60, 0.0), (None, 0, 0)]
)
def test_schedule_wishes_for_metrics_of_its_own_age_or_of_the_jobs(
    age: float | None, stale_after: int, wished: float
) -> None:
    settings = parse({"jobs": {"7": {"pace": {"stale_after_seconds": stale_after}}}})
    wish = settings.wish(Target("7", None), AllTargets(100.0, age))
    assert wish == Update(Target("7", None), 100.0, "schedule", older_than=wished)


# --- What is refused -------------------------------------------------------------------------------------

RANGE = "must be a whole number from"


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([], "the document must be an object, not an empty list"),
        (None, "the document must be an object, not null"),
        ({"pase": 1}, "pase is not allowed here; allowed: $schema, routes, quality_gate, pace, jobs"),
        ({"$schema": 7}, "$schema must be a string, not 7"),
        ({"routes": {}}, "routes must be a list, not an object"),
        ({"pace": 5}, "pace must be an object, not 5"),
        (
            {"pace": {"spacing": 5}},
            "pace.spacing is not allowed here; allowed: visibility_lag_seconds, spacing_s",
        ),
        ({"pace": {"spacing_seconds": "5"}}, f'pace.spacing_seconds {RANGE} 0 to 604800, not "5"'),
        ({"pace": {"spacing_seconds": None}}, f"pace.spacing_seconds {RANGE} 0 to 604800, not null"),
        ({"pace": {"spacing_seconds": 1.5}}, f"pace.spacing_seconds {RANGE} 0 to 604800, not 1.5"),
        ({"pace": {"slots": True}}, f"pace.slots {RANGE} 0 to 1000, not true"),
        ({"pace": {"slots": -1}}, f"pace.slots {RANGE} 0 to 1000, not -1"),
        ({"pace": {"spacing_seconds": 1e300}}, f"pace.spacing_seconds {RANGE} 0 to 604800, not 1e+300"),
        ({"pace": {"deadline_seconds": 9}}, f"pace.deadline_seconds {RANGE} 10 to 604800, not 9"),
        (
            {"pace": {"deadline_seconds": 10**30}},
            f"pace.deadline_seconds {RANGE} 10 to 604800, not a very large number",
        ),
        (
            {"pace": {"shortest_poll_seconds": 60, "longest_poll_seconds": 30}},
            "pace has a shortest_poll_seconds of 60, which must be at most its longest_poll_seconds, 30",
        ),
        (
            {"pace": {"first_backoff_seconds": 100, "longest_backoff_seconds": 50}},
            "pace has a first_backoff_seconds of 100, which must be at most its longest_backoff_seconds, 50",
        ),
        (
            {"jobs": {"7": {"pace": {"longest_backoff_seconds": 4}}}},
            "jobs.7.pace has a first_backoff_seconds of 5, which must be at most its longest_backoff_seconds",
        ),
        ({"quality_gate": []}, "quality_gate must be an object, not an empty list"),
        (
            {"quality_gate": {"drop": {}}},
            "quality_gate.drop is not allowed here; allowed: largest_drop, floor, min",
        ),
        ({"quality_gate": {"minimum_samples": 0}}, f"quality_gate.minimum_samples {RANGE} 1 to"),
        (
            {"quality_gate": {"floor": {"overall_accuracy": 95}}},
            "quality_gate.floor.overall_accuracy must be a n",
        ),
        (
            {"quality_gate": {"floor": {"recall": 0.5}}},
            "quality_gate.floor.recall is not a figure; figures are",
        ),
        ({"jobs": []}, "jobs must be an object, not an empty list"),
        ({"jobs": {"1234": 5}}, "jobs.1234 must be an object, not 5"),
        (
            {"jobs": {"1234": {"pace": {"spacing_seconds": -1}}}},
            f"jobs.1234.pace.spacing_seconds {RANGE} 0 to",
        ),
        (
            {"jobs": {"1234": {"pace": {"slots": 1}}}},
            "jobs.1234.pace.slots is not allowed here; allowed: visibility_lag",
        ),
        (
            {"jobs": {"1234": {"routes": []}}},
            "jobs.1234.routes is not allowed here; allowed: quality_gate, pace",
        ),
        ({"jobs": {"1234": {"gate": {}}}}, "jobs.1234.gate is not allowed here; allowed: quality_gate, pace"),
        ({"jobs": {"phishing": {}}}, "jobs.phishing is not a job's id; a name cannot be used here"),
        ({"jobs": {"a b\n": {}}}, 'jobs["a b\\n"] is not a job\'s id'),
        (
            {"jobs": {"7": {"pace": {"shortest_poll_seconds": 300, "longest_poll_seconds": 299}}}},
            "jobs.7.pace has",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_problem_names_its_place_and_what_is_allowed_there(document: object, problem: str) -> None:
    found = problems(document)
    assert len(found) == 1
    assert found[0].startswith(problem)


def test_all_problems_of_a_document_are_reported_at_once() -> None:
    found = problems(
        {
            "pace": {"slots": -1, "longest_poll_seconds": 0},
            "quality_gate": {"floor": {"overall_accuracy": 2}},
            "routes": [{"keys": [""], "targets": [{}]}],
            "jobs": {"a": {"pace": {"slots": 1}}},
        }
    )
    places = [problem.split()[0] for problem in found]
    assert sorted(places) == [
        "jobs.a",
        "jobs.a.pace.slots",
        "pace.longest_poll_seconds",
        "pace.slots",
        "quality_gate.floor.overall_accuracy",
        "routes[0].keys[0]",
        "routes[0].targets[0]",
    ]


def test_message_of_many_problems_is_short() -> None:
    with pytest.raises(ConfigurationError, match=r"and 180 more$") as refused:
        parse({f"x{n}": 1 for n in range(200)})
    assert len(refused.value.problems) == 200


def test_invalid_pace_of_all_jobs_is_reported_once() -> None:
    pace = {"shortest_poll_seconds": 60, "longest_poll_seconds": 30}
    assert len(problems({"pace": pace, "jobs": {"7": {"pace": {"spacing_seconds": 1}}}})) == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the document is not valid JSON"),
        ("{'pace': {}}", "the document is not valid JSON"),
        ("{} {}", "the document is not valid JSON"),
        ("[" * 5000, "the document is not valid JSON"),
        ("1" * 5000, "the document is not valid JSON"),
        ('{"pace": {"slots": NaN}}', "the document is not valid JSON: Out of range"),
        ('{"pace": {"slots": -Infinity}}', "the document is not valid JSON: Out of range"),
        ('{"pace": {"slots": 1e999}}', "the document is not valid JSON: Out of range"),
        ('{"pace": {"slots": 1, "slots": 2}}', 'the key "slots" is given twice'),
        ('{"jobs": {"7": {}, "7": {}}}', 'the key "7" is given twice'),
    ],
    ids=lambda text: text[:20],
)
def test_text_that_is_not_a_json_object_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        parse_settings(text)


NO_COMMENTS = "JSON has no comments and no trailing commas"


@pytest.mark.parametrize(
    ("text", "is_explained"),
    [
        ("// comment\n{}", True),
        ("# comment\n{}", True),
        ('{"pace": {} /* comment */}', True),
        ("{} // comment", True),
        ('{"pace": {},}', True),
        ('{"routes": [1, ]}', True),
        ("{'pace': {}}", False),
        ("", False),
    ],
)
def test_comment_or_trailing_comma_is_refused_with_the_reason(text: str, is_explained: bool) -> None:
    with pytest.raises(ConfigurationError, match="line") as refused:
        parse_settings(text)
    assert (NO_COMMENTS in str(refused.value)) is is_explained


@given(st.text(max_size=200) | any_json.map(json.dumps))
def test_any_text_is_settings_or_a_configuration_error_with_problems(text: str) -> None:
    try:
        parse_settings(text)
    except ConfigurationError as error:
        assert error.problems  # noqa: PT017  # the property: never refused without saying why


# --- The schema for editors ------------------------------------------------------------------------------


def ecma_pattern(validator: Any, pattern: str, instance: object, schema: object) -> Any:
    """A pattern as JSON Schema defines it. In Python, `$` also matches before a final line feed."""
    if isinstance(instance, str) and not re.search(pattern.replace("$", r"\Z"), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


VALIDATOR = validators.extend(Draft202012Validator, {"pattern": ecma_pattern})(SCHEMA)

BEYOND_THE_SCHEMA = re.compile(
    r"(has a (shortest_poll|first_backoff)_seconds of|has a brace|placeholder twice|is ambiguous|lacks \{"
    r"|has no value)"
)
"""Rules that relate several fields or need a grammar. A schema cannot express them."""

seconds = st.integers(-1, 40) | st.sampled_from([5.0, 604_800, 86_400, 86_401, 0.5, True, None, "5", 1e400])
shares = st.sampled_from([0, 1, 0.5, 1.01, -0.1, "0.5", None, False])
figures = st.sampled_from(["overall_accuracy", "Escalate.recall", "*.f1_score", ".recall", "a.b", "recall\n"])
ids = st.sampled_from(
    ["1234", 7, 7.0, 1.5, "", " ", "a\x00", "\u2028", "{job}", "{job", 2**63, True, None, "x" * 257, "m 1"]
)
pace = st.dictionaries(
    st.sampled_from([*SCHEMA["properties"]["pace"]["properties"], "other"]), seconds, max_size=3
)
gate = st.fixed_dictionaries(
    {},
    optional={
        "largest_drop": st.dictionaries(figures, shares, max_size=2),
        "floor": st.dictionaries(figures, shares, max_size=2) | shares,
        "minimum_samples": seconds,
        "other": shares,
    },
)
targets = st.fixed_dictionaries({}, optional={"job_id": ids, "model_id": ids, "other": ids})
threshold = st.dictionaries(st.sampled_from(["objects", "bytes", "max_wait_seconds", "other"]), seconds)
keys = st.sampled_from(["a/*", "{job}/*", "{job}{x}", "{job", "", 7, None])
routes = st.fixed_dictionaries(
    {},
    optional={
        "name": ids,
        "keys": st.lists(keys, max_size=2) | ids,
        "targets": st.lists(targets, max_size=2),
        "threshold": threshold | ids,
        "other": ids,
    },
)
job = st.fixed_dictionaries({}, optional={"pace": pace, "quality_gate": gate, "routes": ids})
job_ids = st.sampled_from(["1234", "007", "", "name", "12\n", "\u0661", "1" * 256, "1" * 257])
documents = st.fixed_dictionaries(
    {},
    optional={
        "$schema": ids,
        "routes": st.lists(routes, max_size=2) | ids,
        "quality_gate": gate,
        "pace": pace,
        "jobs": st.dictionaries(job_ids, job, max_size=2) | ids,
        "other": ids,
    },
)


@given(documents | any_json)
@example({})
@example({"routes": DEFAULT_ROUTES, "quality_gate": DEFAULT_GATE})
@example({"pace": {"slots": 5.0}, "jobs": {"7": {"pace": {"stale_after_seconds": 0}}}})
@example({"routes": [{"name": 7.0, "targets": [{"job_id": 7, "model_id": None}]}]})
def test_schema_and_parser_accept_the_same_as_far_as_a_schema_can(document: Any) -> None:
    by_schema = not list(VALIDATOR.iter_errors(document))
    try:
        parse(document)
    except ConfigurationError as error:
        told = [problem for problem in error.problems if not BEYOND_THE_SCHEMA.search(problem)]
        assert by_schema is not bool(told)
    except ValueError:  # json.dumps
        return
    else:
        assert by_schema


Document = Callable[[str, object], Any]
GATE = SCHEMA["$defs"]["quality_gate"]["properties"]
PACE = SCHEMA["properties"]["pace"]["properties"]
THRESHOLD = SCHEMA["$defs"]["route"]["properties"]["threshold"]["properties"]


def _with_pace(name: str, value: object) -> Any:
    shortest = {"shortest_poll_seconds": 1, "first_backoff_seconds": 1}
    longest = {"longest_poll_seconds": 900, "longest_backoff_seconds": 900}
    return {"pace": {**shortest, **longest, name: value}}


def _with_pace_of_a_job(name: str, value: object) -> Any:
    return {"jobs": {"7": _with_pace(name, value)}}


def _with_threshold(name: str, value: object) -> Any:
    return {"routes": [{"targets": [{"job_id": 1}], "threshold": {"max_wait_seconds": 1, name: value}}]}


def _with_gate(name: str, value: object) -> Any:
    return {"quality_gate": {name: value}}


WHOLE_NUMBERS: list[tuple[Document, str, dict[str, Any]]] = [
    *((_with_pace, name, field) for name, field in PACE.items()),
    *((_with_pace_of_a_job, name, field) for name, field in PACE.items() if name != "slots"),
    *((_with_threshold, name, field) for name, field in THRESHOLD.items()),
    (_with_gate, "minimum_samples", GATE["minimum_samples"]),
]
"""A document with a number, the number's name, and what the schema says of it."""


def _both_accept(document: object) -> tuple[bool, bool]:
    """Whether the parser and the schema accept it."""
    try:
        parse(document)
    except ConfigurationError:
        return False, VALIDATOR.is_valid(document)
    return True, VALIDATOR.is_valid(document)


@pytest.mark.parametrize(("document", "name", "field"), WHOLE_NUMBERS)
def test_parser_and_schema_have_the_same_limits_of_a_whole_number(
    document: Document, name: str, field: dict[str, Any]
) -> None:
    least, most = field["minimum"], field["maximum"]
    for value in (least, most, float(least)):
        assert _both_accept(document(name, value)) == (True, True), value
    for invalid in (least - 1, most + 1, least + 0.5, str(least), True, None):
        assert _both_accept(document(name, invalid)) == (False, False), invalid


@pytest.mark.parametrize("name", ["largest_drop", "floor"])
def test_parser_and_schema_have_the_same_limits_of_a_share(name: str) -> None:
    for value in (0, 1, 0.5, 1.0):
        assert _both_accept(_with_gate(name, {"overall_accuracy": value})) == (True, True), value
    for invalid in (-0.001, 1.001, "0.5", True, None):
        assert _both_accept(_with_gate(name, {"overall_accuracy": invalid})) == (False, False), invalid


@pytest.mark.parametrize("name", ["job_id", "model_id"])
def test_parser_and_schema_have_the_same_limits_of_an_id(name: str) -> None:
    for value in ("x" * 256, 2**63 - 1, 1 - 2**63):
        assert _both_accept({"routes": [{"targets": [{"job_id": 1, name: value}]}]}) == (True, True), value
    for invalid in ("x" * 257, 2**63, -(2**63), "", " ", "a\x00", 0.5, True):
        assert _both_accept({"routes": [{"targets": [{"job_id": 1, name: invalid}]}]}) == (False, False), (
            invalid
        )


ROUTE = {"keys": ["a"], "targets": [{"job_id": 1}]}


@pytest.mark.parametrize(
    "mistake",
    [
        {"other": {}},
        {"pace": {"other": 1}},
        {"quality_gate": {"other": 1}},
        {"quality_gate": {"largest_drop": {"recall": 0.1}}},
        {"quality_gate": {"floor": {"recall": 0.1}}},
        {"jobs": {"7": {"other": {}}}},
        {"jobs": {"7": {"pace": {"other": 1}}}},
        {"jobs": {"7": {"pace": {"slots": 1}}}},
        {"jobs": {"a name": {}}},
        {"routes": [{**ROUTE, "other": 1}]},
        {"routes": [{"keys": ["a"]}]},
        {"routes": [{**ROUTE, "keys": [""]}]},
        {"routes": [{**ROUTE, "targets": []}]},
        {"routes": [{**ROUTE, "targets": [{}]}]},
        {"routes": [{**ROUTE, "targets": [{"job_id": 1, "other": 1}]}]},
        {"routes": [{**ROUTE, "threshold": {"objects": 1}}]},
        {"routes": [{**ROUTE, "threshold": {"max_wait_seconds": 1, "other": 1}}]},
    ],
    ids=json.dumps,
)
def test_parser_and_schema_refuse_a_single_mistake(mistake: object) -> None:
    assert _both_accept({"routes": [ROUTE]}) == (True, True)
    assert _both_accept(mistake) == (False, False)


def test_schema_names_the_defaults_of_the_parser() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    properties, gate = SCHEMA["properties"], SCHEMA["$defs"]["quality_gate"]["properties"]
    assert properties["routes"]["default"] == DEFAULT_ROUTES
    assert {name: field["default"] for name, field in gate.items()} == DEFAULT_GATE
    pace = {
        name: field["default"]
        for name, field in properties["pace"]["properties"].items()
        if "default" in field
    }
    assert parse({"pace": pace}).for_job("7").pace == Pace()
    assert len(pace) == len(properties["pace"]["properties"]) - 1  # the visibility lag is the queue's


def test_every_field_of_the_schema_is_described() -> None:
    for name, field in SCHEMA["properties"]["pace"]["properties"].items():
        assert field["description"].endswith("."), name
    for name in ("$schema", "routes", "pace", "jobs"):
        assert SCHEMA["properties"][name]["description"]
