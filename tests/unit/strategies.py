"""Values for property tests: any JSON, and any update."""

from hypothesis import strategies as st

from arcanna_metrics.gathering import MOST_BYTES, Significance, mark
from arcanna_metrics.targets import ID_LENGTH, Target
from arcanna_metrics.updates import SAMPLE_SIZE, Update

FIRST = -62_135_596_800_000
"""The year 1, in milliseconds of the epoch."""
LAST = 253_402_300_799_999
"""The end of the year 9999."""

any_text = st.text(st.characters(exclude_categories=()), max_size=20)
"""Half surrogate pairs included, as JSON allows them."""

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=10,
)

identifiers = st.text(min_size=1, max_size=ID_LENGTH).filter(lambda t: t.isprintable() and bool(t.strip()))
targets = st.builds(Target, identifiers, st.none() | identifiers)
milliseconds = st.integers(FIRST, LAST)
samples = st.dictionaries(
    st.sampled_from(["bucket", "key", "version_id"]),
    st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
)
marks = st.builds(
    lambda at, size, what: mark(at / 1000, size, what),
    milliseconds,
    st.integers(0, MOST_BYTES),
    st.text(st.characters(codec="utf-8"), max_size=20),
)
significances = st.builds(
    Significance,
    st.none() | st.integers(1, 1000),
    st.none() | st.integers(1, MOST_BYTES),
    st.integers(0, 10**7).map(float),
)


@st.composite
def updates(draw: st.DrawFn, targets: st.SearchStrategy[Target] = targets) -> Update:
    """Any update that events can lead to: of whole milliseconds, as it is written."""
    first, last = sorted([draw(milliseconds), draw(milliseconds)])
    waiting_since = draw(st.none() | milliseconds)
    waker = draw(st.booleans())
    promised_at = draw(st.none() | milliseconds) if waker else None
    return Update(
        draw(targets),
        last / 1000,
        draw(identifiers),
        first_at=first / 1000,
        count=draw(st.integers(0, 10**9)),
        sample=tuple(draw(st.lists(samples, max_size=SAMPLE_SIZE))),
        attempt=draw(st.integers(0, 10**9)),
        waiting_since=None if waiting_since is None else waiting_since / 1000,
        marks=draw(st.frozensets(marks, max_size=3)),
        significance=draw(st.none() | significances),
        waker=waker,
        promised_at=None if promised_at is None else promised_at / 1000,
        older_than=draw(st.none() | st.integers(1, 10**7)),
        follows_active=draw(st.booleans()),
    )
