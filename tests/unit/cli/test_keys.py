import json

import pytest
from cryptography.fernet import Fernet

from cli.keys import Scope
from tests.support.settings import ENCRYPTION_KEY


def created(refundry, *more):
    made = refundry("keys", "create", "--name", "shop", "--scope", "refunds:write", *more, "-o", "json")
    assert made.status == 0, made.err
    return made.json()


def test_a_key_is_shown_once_listed_without_its_secret_and_revoked(home, refundry):
    made = created(refundry, "--scope", "refunds:read", "--account", "shop", "--expires", "90d")
    listed = refundry("keys", "list", "-o", "json")

    assert made["key"].startswith(f"{made['id']}_")
    assert made["scopes"] == ["refunds:read", "refunds:write"]
    assert made["accounts"] == ["shop"]
    assert made["expires_at"] is not None
    assert made["key"].rpartition("_")[2] not in listed.out
    assert [(each["id"], each["state"]) for each in listed.json()] == [(made["id"], "live")]

    assert refundry("keys", "revoke", made["id"]).status == 0
    assert refundry("keys", "revoke", made["id"]).status == 0
    assert refundry("keys", "list", "-o", "json").json()[0]["state"] == "revoked"


def test_people_see_the_key_in_a_line_of_its_own(home, refundry):
    told = refundry("keys", "create", "--name", "shop", "--scope", "metrics:read").out.splitlines()

    assert told[0].startswith("rk_")
    assert "not shown again" in told[1]
    assert "shop" in refundry("keys", "list").out


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--name", "Shop A", "--scope", "refunds:read"), 1),
        (("--name", "shop", "--scope", "refunds:all"), 2),
        (("--name", "shop"), 2),
        (("--name", "shop", "--scope", "refunds:read", "--account", "nowhere"), 3),
        (("--name", "shop", "--scope", "refunds:read", "--expires", "soon"), 2),
    ],
)
def test_what_cannot_be_is_refused(home, refundry, arguments, status):
    assert refundry("keys", "create", *arguments).status == status
    assert refundry("keys", "list", "-o", "json").json() == []


def test_a_third_live_key_of_a_name_is_refused_until_one_ends(home, refundry):
    first, _ = created(refundry), created(refundry)
    refused = refundry("keys", "create", "--name", "shop", "--scope", "refunds:read")
    refundry("keys", "revoke", first["id"])

    assert refused.status == 1
    assert first["id"] in refused.err
    assert created(refundry)["state"] == "live"


def test_what_is_not_there_cannot_be_revoked(home, refundry):
    assert refundry("keys", "revoke", "rk_nothing0").status == 3


def test_keys_are_for_admins(people, refundry):
    create = ("keys", "create", "--name", "shop", "--scope", Scope.READ)

    assert refundry(*create, "--actor", "oli").status == 1
    assert refundry("keys", "list", "--actor", "oli").status == 1
    assert refundry(*create, "--actor", "ada").status == 0


def test_encryption_keys_are_rotated_and_what_is_left_is_counted(home, refundry):
    job = {
        "reference": "R-1",
        "account": "shop",
        "payment": {"id": "PAY00001", "order_id": "ORD00001"},
        "amount": 100,
        "currency": "EUR",
        "customer": {"email": "john@example.com"},
    }
    assert refundry("submit", "-", "--format", "json", stdin=json.dumps(job).encode()).status == 0
    newest = Fernet.generate_key().decode()
    settings = home / "refundry.toml"
    settings.write_text(settings.read_text().replace("encryption_keys = [", f'encryption_keys = ["{newest}", '))

    before = refundry("keys", "rotate-encryption", "--dry-run", "-o", "json")
    rotated = refundry("keys", "rotate-encryption", "-o", "json")
    doctor = refundry("doctor", "-o", "json").json()
    settings.write_text(settings.read_text().replace(f', "{ENCRYPTION_KEY}"', ""))
    shown = refundry("refunds", "show", "R-1", "-o", "json").json()

    assert (before.status, rotated.status) == (1, 0)
    assert {each["column"]: each["older"] for each in before.json()}["refund.personal"] == 1
    assert all(each["older"] == each["unreadable"] == 0 for each in rotated.json())
    assert "can be removed" in next(each["says"] for each in doctor if each["what"] == "encryption keys")
    assert shown["customer"] == {"email": "j***@***.com"}


def test_only_admins_rotate_encryption_keys(home, refundry, people):
    assert refundry("keys", "rotate-encryption", "--actor", "oli").status == 1
    assert "refund.personal" in refundry("keys", "rotate-encryption", "--actor", "ada").out
