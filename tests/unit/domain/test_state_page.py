import re
from pathlib import Path

from domain.state import MOVES, Hold, State, hold

PAGE = (Path(__file__).parents[3] / "docs" / "state-machine.md").read_text()


def test_the_diagram_shows_exactly_the_moves_of_the_table():
    drawn = {(a, b) for a, b in re.findall(r"^    (\w+) --> (\w+)$", PAGE, re.MULTILINE)}

    assert drawn == {(str(a), str(b)) for a, targets in MOVES.items() for b in targets}


def test_the_table_says_what_each_state_does_to_the_money():
    written = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([\w ]+) \|$", PAGE, re.MULTILINE))

    assert set(written) == {str(state) for state in State}
    for state in set(State) - {State.SETTLED}:
        assert Hold(written[state]) is hold(state)
