"""Values for property tests: any JSON, and any update; and how many examples a costly test takes."""

from hypothesis import settings
from hypothesis import strategies as st

from arcanna_metrics.targets import ID_LENGTH, WHOLE, Example, Target, Update


def at_most(examples: int) -> settings:
    """Settings for a test with costly examples: that many, or fewer if the profile has fewer."""
    return settings(max_examples=min(examples, settings().max_examples))


FIRST = -62_135_596_800_000
"""The year 1, in milliseconds of the epoch."""
LAST = 253_402_300_799_999
"""The end of the year 9999."""

any_text = st.text(st.characters(exclude_categories=()), max_size=20)
"""Texts with lone surrogates, which JSON allows."""

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=10,
)

identifiers = st.text(min_size=1, max_size=ID_LENGTH).filter(lambda t: t.isprintable() and bool(t.strip()))
targets = st.builds(Target, identifiers, st.none() | identifiers)
milliseconds = st.integers(FIRST, LAST)

_names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)
examples = st.builds(Example, _names, _names, st.none() | _names)
_happened_at = st.integers(1_143_000_000_000, 4_102_444_800_000).map(lambda time: time / 1000)


def updates(targets: st.SearchStrategy[Target] = targets) -> st.SearchStrategy[Update]:
    """Any update that events lead to: uploads, with or without a threshold, reports, requests, wishes."""
    shares = st.integers(1, WHOLE - 1)
    waits = st.integers(1, 30 * 86400).map(float)
    ages = st.integers(1, 10**7).map(float)
    uploads = st.builds(Update, targets, _happened_at, st.just("upload"), examples)
    parts = st.builds(Update, targets, _happened_at, st.just("upload"), examples, shares, waits)
    reports = st.builds(Update, targets, _happened_at, identifiers)
    requests = st.builds(Update, targets, _happened_at, identifiers, by_hand=st.just(True))
    wishes = st.builds(Update, targets, _happened_at, identifiers, older_than=ages)
    return uploads | parts | reports | requests | wishes
