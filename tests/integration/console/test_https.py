"""A console that people reach over https: what its cookies are, and what becomes of plain ones."""

import httpx
import pytest

from tests.support.console import PASSWORD, ConsoleServer

HOST = {"host": "console.example", "sec-fetch-site": "same-origin"}


@pytest.fixture(scope="module")
def public(system, staffed):
    """The same people, behind a proxy that ends TLS."""
    path = system.folder / "refundry.toml"
    path.write_text(path.read_text() + '[console]\nurl = "https://console.example"\n')
    return ConsoleServer(system).start()


def sign_in(public):
    form = {"name": "oli", "password": PASSWORD}
    answer = httpx.post(f"{public.url}/sign-in", data=form, headers=HOST)
    assert answer.status_code == 303, answer.text
    return answer


def test_the_session_is_held_to_this_host_and_to_https(public):
    answer = sign_in(public)
    name, _, rest = answer.headers["set-cookie"].partition("=")
    attributes = {each.strip().lower() for each in rest.split(";")[1:]}

    assert name == "__Host-refundry"
    assert {"secure", "httponly", "samesite=lax", "path=/"} <= attributes
    assert not any(each.startswith("domain") for each in attributes)
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_a_cookie_that_another_host_of_the_domain_could_set_opens_nothing(public):
    secret = sign_in(public).cookies["__Host-refundry"]

    def status(cookie):
        return httpx.get(f"{public.url}/refunds", headers={**HOST, "cookie": cookie}).status_code

    assert status(f"__Host-refundry={secret}") == 200
    assert status(f"refundry={secret}") == 303
