"""The page says what the code does, and its Python example verifies."""

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from config.settings import RETRIES
from domain.webhook import EVENT_TYPES, as_secret, signed

PAGE = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text(encoding="utf-8")
BODY = '{"type":"refund.sent","data":{"reference":"ä"}}'.encode()
SECRET = as_secret(b"k" * 32)
NEXT = as_secret(b"n" * 48)


def example(language):
    (code,) = re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)

    return code


@pytest.fixture
def verified():
    names = {}
    exec(compile(example("python"), "docs/webhooks.md", "exec"), names)  # the page is ours
    names["SECRETS"][:] = [SECRET]

    return names["verified"]


def test_the_example_takes_what_refundry_signs(verified):
    assert verified(signed([SECRET], "msg_1", time.time(), BODY), BODY)
    assert verified(signed([NEXT, SECRET], "msg_1", time.time(), BODY), BODY)


@pytest.mark.parametrize(
    "changes",
    [
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": "1"},
        {"webhook-timestamp": "soon"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,ä v2,x nonsense"},
    ],
)
def test_the_example_refuses_everything_else(verified, changes):
    headers = signed([SECRET], "msg_1", time.time(), BODY)

    assert not verified({**headers, **changes}, BODY)
    assert not verified(headers, BODY + b" ")
    assert not verified({}, BODY)
    assert not verified(signed([NEXT], "msg_1", time.time(), BODY), BODY)
    assert not verified(signed([SECRET], "msg_1", time.time() - 400, BODY), BODY)


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no node here")
def test_the_example_for_node_decides_alike():
    headers = signed([NEXT, SECRET], "msg_1", time.time(), BODY)
    code = example("javascript").replace("whsec_...", SECRET)
    code += f"const body = Buffer.from({BODY.decode()!r}); const headers = {headers!r};\n"
    code += "console.log(verified(headers, body), verified(headers, Buffer.from('x')), verified({}, body));"
    told = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True, timeout=30)

    assert told.stdout.split() == ["true", "false", "false"]


def test_every_type_and_step_of_the_schedule_is_on_the_page():
    assert set(re.findall(r"^\| `(refund\.\w+)`", PAGE, flags=re.MULTILINE)) == set(EVENT_TYPES)
    steps = {0.0: "at once", 5.0: "5 s", 300.0: "5 min", 1800.0: "30 min"}
    words = [steps.get(each, f"{each / 3600:g} h") for each in RETRIES]

    place = 0
    for word in words:
        place = PAGE.index(word, place)
