from hypothesis import given
from hypothesis import strategies as st

from engine.ids import new_id


def test_an_id_has_its_prefix_and_26_characters():
    made = new_id("rf", 1_700_000_000.0)

    assert made.startswith("rf_")
    assert len(made) == 29


def test_ids_of_one_moment_differ():
    assert len({new_id("rf", 1_700_000_000.0) for _ in range(1000)}) == 1000


@given(st.floats(1e9, 1e11), st.floats(0.002, 1e6))
def test_ids_sort_by_the_time_of_their_making(moment, later):
    assert new_id("rf", moment, b"\xff" * 10) < new_id("rf", moment + later, b"\x00" * 10)
