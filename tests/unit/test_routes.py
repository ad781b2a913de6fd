"""Which keys lead to which models, and which route documents are refused."""

import json
import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from arcanna_metrics.errors import BadInput, ConfigurationError, RecomputeError
from arcanna_metrics.intake.events import ObjectCreated
from arcanna_metrics.intake.routes import Routes, Threshold
from arcanna_metrics.settings import parse_settings
from arcanna_metrics.targets import WHOLE, Example, Target, Update
from tests.unit.strategies import any_json, any_text

MODEL = "generic-1-1234-model-1747385873.hdf5"
BY_PATH = {
    "name": "by-path",
    "keys": ["training-data/{job_id}/{model_id}/*"],
    "targets": [{"job_id": "{job_id}", "model_id": "{model_id}"}],
}
BY_JOB = {"name": "by-job", "keys": ["training-data/{job_id}/*"], "targets": [{"job_id": "{job_id}"}]}


def parse(*listed: Any) -> Routes:
    return parse_settings(json.dumps({"routes": listed})).routes


def by_key(pattern: str, target: str = "1234") -> Routes:
    return parse({"name": "r", "keys": [pattern], "targets": [{"job_id": target}]})


# --- Matching --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alerts.csv", "a+b.csv", "ä ö/%2B.csv", "with some spaces.csv", "a\nb", ""])
def test_path_of_an_object_names_job_and_model(name: str) -> None:
    assert parse(BY_PATH, BY_JOB).match(f"training-data/1234/{MODEL}/{name}")[1] == [Target("1234", MODEL)]


def test_path_without_a_model_leads_to_the_active_model() -> None:
    assert parse(BY_PATH, BY_JOB).match("training-data/security-alerts/a.csv")[1] == [
        Target("security-alerts", None)
    ]


def test_first_matching_route_counts() -> None:
    key = f"training-data/1234/{MODEL}/a.csv"
    assert parse(BY_JOB, BY_PATH).match(key)[1] == [Target("1234", None)]


@pytest.mark.parametrize("key", ["", "other/1234/a.csv", "training-data/1234", "x/training-data/1234/a.csv"])
def test_key_without_a_matching_route_leads_nowhere(key: str) -> None:
    assert parse(BY_PATH, BY_JOB).match(key)[1] == []


@pytest.mark.parametrize(
    ("pattern", "key"),
    [
        ("shared/*", "shared/a/b.csv"),
        ("*.csv", "a/b.csv"),
        ("*", "anything/at all"),
        ("logs/*/labels-202?.csv", "logs/a/b/labels-2025.csv"),
        ("a.b", "a.b"),
        ("**x**", "x"),
    ],
)
def test_glob_matches_as_documented(pattern: str, key: str) -> None:
    assert by_key(pattern).match(key)[1] == [Target("1234", None)]


@pytest.mark.parametrize(
    ("pattern", "key"),
    [("shared/*", "Shared/a"), ("*.csv", "a.csv.gz"), ("a.b", "axb"), ("labels-?", "labels-"), ("a", "a\n")],
)
def test_glob_matches_only_the_whole_key(pattern: str, key: str) -> None:
    assert by_key(pattern).match(key)[1] == []


@pytest.mark.parametrize(
    ("pattern", "key", "job_id"),
    [
        ("{job}.csv", "security-alerts.csv", "security-alerts"),
        ("*/job-{job}.csv", "2025/01/job-1234.csv", "1234"),
        ("*/{job}/labels/*", "a/b/labels/c/labels/d", "b"),
        ("{job}-*", "1-2-3", "1"),
        ("x{job}y*y", "x1y2y", "1"),
    ],
)
def test_placeholder_matches_within_one_path_segment(pattern: str, key: str, job_id: str) -> None:
    assert by_key(pattern, "{job}").match(key)[1] == [Target(job_id, None)]


def test_route_may_lead_to_several_targets() -> None:
    targets = [{"job_id": "{job}", "model_id": "v-{job}"}, {"job_id": 7}]
    found = parse({"keys": ["x/{job}", "y/{job}/*"], "targets": targets}).match("y/12/z")[1]
    assert found == [Target("12", "v-12"), Target("7", None)]


@pytest.mark.parametrize("job_id", [" ", "12\x00", "a" * 257])
def test_key_with_an_invalid_id_is_bad_input(job_id: str) -> None:
    with pytest.raises(BadInput, match=r"^job_id "):
        parse(BY_JOB).match(f"training-data/{job_id}/a.csv")


PATTERNS = st.text("ab/*?", max_size=8) | st.from_regex(
    r"[ab*/?]{0,4}\{x\}([ab/][ab*/?]{0,4})?", fullmatch=True
)


@given(PATTERNS, st.text("ab/", max_size=10))
def test_matching_equals_that_of_a_backtracking_matcher(pattern: str, key: str) -> None:
    assume(pattern)
    meaning = {"*": ".*", "?": ".", "{x}": "[^/]+"}
    naive = "".join(meaning.get(token) or re.escape(token) for token in re.findall(r"\{x\}|.", pattern))
    assert bool(by_key(pattern).match(key)[1]) == bool(re.fullmatch(naive, key))


@pytest.mark.parametrize(
    ("pattern", "letter"), [("*a" * 20 + "b", "a"), ("*a{x}c" + "*a" * 20, "a"), ("*{x}-b", "-")]
)
def test_matching_time_is_bounded_for_any_key(pattern: str, letter: str) -> None:
    # It takes milliseconds; with backtracking, this test would not end.
    assert by_key(pattern).match(letter * 1024)[1] == []


# --- Updates ---------------------------------------------------------------------------------------------

UPLOAD = ObjectCreated("example-training-data", "training-data/7/a.csv", "v1", 100.0, 600)


def test_object_leads_to_an_update_with_it_as_example() -> None:
    example = Example("example-training-data", "training-data/7/a.csv", "v1")
    assert parse(BY_JOB).updates(UPLOAD) == [Update(Target("7", None), 100.0, "upload", example)]


def test_object_without_a_matching_route_leads_to_no_update() -> None:
    assert parse(BY_JOB).updates(UPLOAD._replace(key="other/7/a.csv")) == []


# --- How much is worth a recompute -----------------------------------------------------------------------

GATHERED = {**BY_JOB, "threshold": {"objects": 10, "bytes": 5000, "max_wait_seconds": 3600}}


def test_object_under_a_threshold_is_a_share_of_it() -> None:
    (update,) = parse(GATHERED).updates(UPLOAD)
    assert (update.share, update.max_wait) == (120_000, 3600.0)  # 600 of 5,000 bytes are more than 1 of 10


def test_object_without_a_threshold_is_worth_a_recompute() -> None:
    (update,) = parse(BY_JOB).updates(UPLOAD)
    assert (update.share, update.max_wait) == (WHOLE, 0.0)


@pytest.mark.parametrize(
    ("objects", "size_limit", "size", "share"),
    [
        (10, None, 10**12, 100_000),
        (3, None, 1, 333_334),
        (1, None, 1, WHOLE),
        (1000, None, None, 1000),
        (None, 5000, 1, 200),
        (None, 3, 1, 333_334),
        (None, 5000, 5000, WHOLE),
        (None, 5000, 10**12, WHOLE),
        (None, 2**50, 1, 1),
        (None, 5000, None, WHOLE),
        (10, 5000, None, 100_000),
        (10, 5000, 1, 100_000),
        (10, 5000, 1000, 200_000),
        (None, None, 10**12, 1),
    ],
)
def test_object_counts_as_the_larger_of_its_shares(
    objects: int | None, size_limit: int | None, size: int | None, share: int
) -> None:
    assert Threshold(objects, size_limit, 60.0).share(size) == share


@given(st.integers(1, 1000))
def test_exactly_the_configured_number_of_objects_is_enough(objects: int) -> None:
    share = Threshold(objects, None, 60.0).share(1)
    assert (objects - 1) * share < WHOLE <= objects * share


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=50), st.integers(1, 50), st.integers(1, 10**7))
def test_configured_objects_or_bytes_are_always_enough(
    sizes: list[int], objects: int, size_limit: int
) -> None:
    threshold = Threshold(objects, size_limit, 60.0)
    enough = sum(threshold.share(size) for size in sizes) >= WHOLE
    assert enough or (len(sizes) < objects and sum(sizes) < size_limit)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=50), st.integers(1, 10**7))
def test_rounding_of_bytes_is_at_most_a_millionth_per_object(sizes: list[int], size_limit: int) -> None:
    threshold = Threshold(None, size_limit, 60.0)
    if sum(threshold.share(size) for size in sizes) >= WHOLE:
        assert sum(sizes) * WHOLE >= size_limit * (WHOLE - len(sizes))


@pytest.mark.parametrize(
    ("threshold", "complaint"),
    [
        ({"objects": 10}, ' lacks "max_wait_seconds"'),
        ({"objects": 10, "max_wait_seconds": None}, ".max_wait_seconds must be a whole number from 1"),
        ({"objects": 1001, "max_wait_seconds": 60}, ".objects must be a whole number from 1 to 1000"),
        ({"objects": True, "max_wait_seconds": 60}, ".objects must be a whole number"),
        ({"objects": 2.5, "max_wait_seconds": 60}, ".objects must be a whole number"),
        ({"bytes": 0, "max_wait_seconds": 60}, ".bytes must be a whole number from 1"),
        ({"max_wait_seconds": 1e9}, ".max_wait_seconds must be a whole number from 1 to 2592000"),
        (
            {"max_wait": 60, "max_wait_seconds": 60},
            ".max_wait is not allowed here; allowed: objects, bytes, max",
        ),
        ([], " must be an object, not an empty list"),
        (None, " must be an object, not null"),
    ],
)
def test_invalid_threshold_is_refused(threshold: object, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match="^" + re.escape(f"routes[0].threshold{complaint}")):
        parse({**BY_JOB, "threshold": threshold})


def test_whole_number_may_be_written_as_a_float() -> None:
    threshold = {"objects": 10.0, "bytes": 5e3, "max_wait_seconds": 3600.0}
    assert parse({**BY_JOB, "threshold": threshold}) == parse(GATHERED)


# --- Documents -------------------------------------------------------------------------------------------

NO_PATTERN = "must be a key pattern such as training-data/{job_id}/*"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"key": ["a"]}, ".key is not allowed here; allowed: name, keys, targets, threshold"),
        ({"significant": {}}, ".significant is not allowed here"),
        ({"name": ["r"]}, ".name must be an id or a name, not a list"),
        ({"name": " "}, '.name must be an id or a name, not " " (it is empty)'),
        ({"keys": "a/*"}, ".keys must be a list"),
        ({"keys": [""]}, f'.keys[0] {NO_PATTERN}, not ""'),
        ({"keys": ["a/{job"]}, f'.keys[0] {NO_PATTERN}, not "a/{{job" (it has a brace'),
        ({"keys": [f"{'a/' * 50}{{job"]}, f'.keys[0] {NO_PATTERN}, not "{"a/" * 50}{{job" (it has a brace'),
        ({"keys": ["{" + "a" * 300]}, f'.keys[0] {NO_PATTERN}, not "{{{"a" * 196}..." (it has a brace'),
        ({"keys": ["a", "a/{1}"]}, f'.keys[1] {NO_PATTERN}, not "a/{{1}}" (it has a brace'),
        ({"keys": ["{a}/{a}"]}, f'.keys[0] {NO_PATTERN}, not "{{a}}/{{a}}" (it has a placeholder twice'),
        ({"keys": ["{a}{b}"]}, f'.keys[0] {NO_PATTERN}, not "{{a}}{{b}}" (it is ambiguous'),
        ({"keys": ["{a}-{b}"]}, f'.keys[0] {NO_PATTERN}, not "{{a}}-{{b}}" (it is ambiguous'),
        ({"keys": ["{a}*"]}, f'.keys[0] {NO_PATTERN}, not "{{a}}*" (it is ambiguous'),
        ({"targets": []}, ".targets must be a list of 1 or more, not an empty list"),
        ({"targets": ["1234"]}, '.targets[0] must be an object, not "1234"'),
        ({"targets": [{"model_id": "m"}]}, '.targets[0] lacks "job_id"'),
        ({"targets": [{"job_id": 1.5}]}, ".targets[0].job_id must be an id or a name, not 1.5"),
        (
            {"targets": [{"job_id": "1"}, {"job_id": 1, "model": "m"}]},
            ".targets[1].model is not allowed here",
        ),
        (
            {"targets": [{"job_id": "{job"}]},
            '.targets[0].job_id must be an id or a name, not "{job" (it has a brace',
        ),
        ({"targets": [{"job_id": "{job}"}]}, ".keys[0] lacks {job}, which a target needs"),
        ({"targets": [{"job_id": "{job}"}], "keys": []}, ' has no "keys", so {job} has no value'),
    ],
)
def test_invalid_route_is_refused_with_its_place_and_problem(change: Any, complaint: str) -> None:
    route = {"name": "r", "keys": ["a/*"], "targets": [{"job_id": "1234"}]} | change
    with pytest.raises(ConfigurationError) as refused:
        parse(BY_JOB, route)
    assert str(refused.value).startswith(f"routes[1]{complaint}")
    assert len(refused.value.problems) == 1


def test_route_without_targets_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r'^routes\[0\] lacks "targets"$'):
        parse({"keys": ["a/*"]})


patterns = any_text | st.text("ab/*?{}", max_size=12)
route_like = st.fixed_dictionaries(
    {
        "targets": any_json
        | st.lists(st.dictionaries(st.sampled_from(["job_id", "model_id"]), any_json | patterns))
    },
    optional={"name": any_json, "keys": any_json | st.lists(patterns)},
)


@given(st.lists(any_json | route_like, max_size=3), any_text | st.text("ab/", max_size=12))
def test_any_document_is_routes_or_a_configuration_error(listed: list[Any], key: str) -> None:
    try:
        parse(*listed).updates(UPLOAD._replace(key=key))
    except RecomputeError:
        return
