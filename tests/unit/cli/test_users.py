import pytest


def test_users_are_created_listed_and_changed(people, refundry):
    assert refundry("users", "grant", "oli", "--role", "viewer", "--actor", "ada").status == 0
    assert refundry("users", "revoke", "oli", "--role", "operator", "--actor", "ada").status == 0

    listed = refundry("users", "list", "--actor", "ada", "-o", "json").json()

    assert {each["name"]: each["roles"] for each in listed} == {
        "ada": ["admin"],
        "oli": ["viewer"],
        "pia": ["approver"],
    }
    assert "oli" in refundry("users", "list", "--actor", "ada").out


def test_without_any_role_a_user_is_disabled(people, refundry):
    told = refundry("users", "revoke", "oli", "--role", "operator", "--actor", "ada", "-o", "json")

    assert told.json() == {"name": "oli", "roles": [], "disabled": True}
    assert refundry("refunds", "list", "--actor", "oli").status == 1


def test_once_there_are_users_everybody_says_who_they_are(people, refundry, monkeypatch):
    assert refundry("refunds", "list").status == 1
    assert refundry("refunds", "list", "--actor", "nobody").status == 1
    monkeypatch.setenv("REFUNDRY_ACTOR", "oli")
    assert refundry("refunds", "list").status == 0
    assert refundry("users", "create", "x", "--role", "viewer").status == 1


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("create", "oli", "--role", "viewer"), 1),
        (("create", "new", "--role", "king"), 2),
        (("create", "new"), 2),
        (("grant", "nobody", "--role", "viewer"), 3),
        (("grant", "ada", "--role", "operator"), 1),
    ],
)
def test_what_cannot_be_is_refused(people, refundry, arguments, status):
    assert refundry("users", *arguments, "--actor", "ada").status == status


def test_before_there_are_users_the_list_says_so(home, refundry):
    assert "no users yet" in refundry("users", "list").out
