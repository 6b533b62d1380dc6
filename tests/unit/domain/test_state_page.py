import re
from pathlib import Path

from domain.refund import Settlement
from domain.state import MOVES, Hold, State, hold

PAGE = (Path(__file__).parents[3] / "docs" / "state-machine.md").read_text()


def test_the_diagram_shows_the_table_of_moves():
    arrows = re.findall(r"^    (\S+) --> (\S+)$", PAGE, re.MULTILINE)
    drawn = {(current, target) for current, target in arrows if current != "[*]"}

    assert len(arrows) == len(set(arrows))
    assert drawn == {(str(state), str(target)) for state in MOVES for target in MOVES[state]}
    assert {target for current, target in arrows if current == "[*]"} == {State.QUEUED, State.AWAITING_APPROVAL}


def test_the_page_says_what_each_state_does_to_the_money():
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE))

    assert set(rows) == set(State)
    for state in set(State) - {State.SETTLED}:
        assert rows[state] == hold(state)
    assert rows[State.SETTLED] not in set(Hold)
    assert Settlement.NOT_RETURNED == "not_returned"
