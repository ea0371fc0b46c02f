"""Names that an attacker would choose, for tests of what is written from them."""

from datetime import UTC, datetime

from hypothesis import strategies as st

START = datetime(2019, 5, 3, 10, 20, tzinfo=UTC)
HOSTILE = "|=\\\"' ,;\t\n\r\v\f\0\x1b[31m\x7f\x85\u2028\u2029#-(empty)%{}<>[]ä☃\U0001f600\ud800$`()"
names = st.one_of(
    st.sampled_from(["-", "(empty)", "#close", "\\x09", "a\nCEF:0|x", '"},{"', "\ud800", "$(rm)", "'; rm *; '", "\\(env)"]),
    st.text(alphabet=HOSTILE),
    st.text(),
)
