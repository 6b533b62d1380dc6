import pytest

from domain.errors import Refused
from engine.door import idempotency_key


@pytest.mark.parametrize(
    ("fields", "key"),
    [([], None), (["a"], "a"), (['"a"'], "a"), ([" a.B:c_d-9 "], "a.B:c_d-9"), (['"' + "x" * 255 + '"'], "x" * 255)],
)
def test_a_key_is_taken_quoted_or_bare(fields, key):
    assert idempotency_key(fields) == key


@pytest.mark.parametrize("fields", [[""], ['"'], ['""'], ["a", "a"], ["a,b"], ["a b"], ["ä"], ["x" * 256], ['a"']])
def test_what_is_no_key_is_refused(fields):
    with pytest.raises(Refused, match="1 to 255"):
        idempotency_key(fields)
