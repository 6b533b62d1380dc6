"""Before there is any user: whoever holds the terminal signs in by a link, once."""

from urllib.parse import parse_qs, urlsplit

from tests.integration.console.conftest import Visitor

OURS = {"sec-fetch-site": "same-origin"}


def test_the_link_signs_in_once_and_looking_at_it_does_nothing(console, visitor):
    somebody: Visitor = visitor(None)
    link = console.link()
    secret = parse_qs(urlsplit(link).query)["secret"][0]
    assert somebody.get(link).status_code == 200
    assert somebody.get(link).status_code == 200
    entered = somebody.client.post("/sign-in/link", data={"secret": secret}, headers=OURS)
    assert entered.status_code == 303
    assert "system" in somebody.get("/").text

    again = visitor(None).client.post("/sign-in/link", data={"secret": secret}, headers=OURS)

    assert again.status_code == 403
    assert "has been used" in again.text


def test_the_first_user_is_an_admin_and_ends_the_time_without_users(console, visitor):
    somebody: Visitor = visitor(None)
    secret = parse_qs(urlsplit(_new_link(console)).query)["secret"][0]
    somebody.client.post("/sign-in/link", data={"secret": secret}, headers=OURS)
    form = {"name": "root", "password": "correct horse battery", "role": "admin"}
    assert somebody.post("/settings/users", form).status_code == 303

    assert somebody.get("/").status_code == 303
    assert visitor("root").get("/").status_code == 200


def _new_link(console):
    console.stop()
    return console.start().link()
