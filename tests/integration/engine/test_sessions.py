"""Who gets in, who is kept out, and for how long, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest

from domain.errors import Forbidden, NotFound, Refused
from engine import people, sessions
from engine.people import Actor, Role
from engine.sessions import BY_ADDRESS, BY_NAME, BY_NAME_AND_ADDRESS, Browser
from ledger import journal
from ledger import sessions as kept
from tests.unit.engine.support import NOW, an_engine

ADA = Actor("ada", frozenset({Role.ADMIN}))
PASSWORD = "correct horse battery"
HERE = Browser("192.0.2.1", "a browser")
OIDC = {"issuer": "https://login.example", "client_id": "refundry", "client_secret": "s"}


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request, tmp_path):
    """An engine on an empty ledger of either kind."""
    if request.param == "sqlite":
        yield an_engine(tmp_path / "ledger.db", lambda *_: None)
        return
    postgres = request.getfixturevalue("postgres")
    url = postgres.create()
    made = an_engine(url, lambda *_: None)
    yield made
    made.close()
    postgres.drop(url)


@pytest.fixture
def oli(engine):
    people.create(engine, ADA, "oli", frozenset({Role.OPERATOR}))
    sessions.set_password(engine, ADA, "oli", PASSWORD)


@pytest.fixture
def quick(monkeypatch):
    """Argon2 is not what is tested."""
    monkeypatch.setattr(sessions, "_verified", lambda hashed, password: password == PASSWORD)


def by_provider(engine, roles=(Role.OPERATOR,)):
    return sessions.sign_in_by_provider(engine, subject="idp 1", name="una", roles=roles, browser=HERE)


def settings_with(engine, **console):
    section = engine.settings.console.model_copy(update=console)
    return replace(engine, settings=engine.settings.model_copy(update={"console": section}))


def tried(engine, name, browser):
    with pytest.raises(Refused) as error:
        sessions.sign_in(engine, name, "wrong", browser)
    return error.value.code


def test_whom_the_provider_knows_has_no_password_here(engine):
    by_provider(engine)
    una = people.recognise(engine, "una")

    for who in (una, ADA):
        with pytest.raises(Refused, match="identity provider"):
            sessions.set_password(engine, who, "una", PASSWORD)


def test_a_password_that_came_before_the_provider_signs_nobody_in(engine, oli):
    with engine.ledger.write() as connection:
        sessions.people.bind_subject(connection, "oli", "idp 7")

    assert tried(engine, "oli", HERE) == "sign-in-refused"
    with pytest.raises(Forbidden):
        sessions.sign_in(engine, "oli", PASSWORD, HERE)


@pytest.mark.parametrize(
    ("oidc", "said", "there"), [(None, None, True), (OIDC, None, False), (OIDC, True, True), (None, False, False)]
)
def test_the_settings_say_whether_passwords_sign_in(engine, oli, oidc, said, there):
    ours = settings_with(engine, oidc=oidc, local_sign_in=said)

    if there:
        assert sessions.sign_in(ours, "oli", PASSWORD, HERE)
    else:
        with pytest.raises(NotFound):
            sessions.sign_in(ours, "oli", PASSWORD, HERE)


def test_a_new_password_takes_the_current_one(engine, oli):
    actor = people.recognise(engine, "oli")
    with pytest.raises(Forbidden):
        sessions.change_password(engine, actor, "guess", "another horse battery", HERE)
    sessions.change_password(engine, actor, PASSWORD, "another horse battery", HERE)

    assert sessions.sign_in(engine, "oli", "another horse battery", HERE)


def test_whom_an_admin_disabled_the_provider_does_not_bring_back(engine):
    by_provider(engine)
    people.change_roles(engine, ADA, "una", grant=frozenset(), revoke=frozenset(Role))
    with pytest.raises(Forbidden, match="disabled"):
        by_provider(engine)
    with pytest.raises(Forbidden):
        people.recognise(engine, "una")

    people.change_roles(engine, ADA, "una", grant=frozenset({Role.VIEWER}), revoke=frozenset())
    assert by_provider(engine)


def test_whom_the_provider_left_without_a_role_it_may_give_one_again(engine):
    by_provider(engine)
    with pytest.raises(Forbidden, match="no role"):
        by_provider(engine, roles=())

    assert by_provider(engine)


def test_tries_sent_together_do_not_all_see_the_same_count(engine, oli, quick):
    together, free = 16, BY_NAME_AND_ADDRESS[0]
    gate = Barrier(together)

    def one(_):
        gate.wait()
        return tried(engine, "oli", HERE)

    with ThreadPoolExecutor(together) as pool:
        codes = list(pool.map(one, range(together)))

    assert sorted(codes) == ["sign-in-refused"] * free + ["too-many-tries"] * (together - free)


def test_a_stranger_locks_nobody_out_and_time_forgets(engine, oli, quick):
    free, lasting = BY_NAME_AND_ADDRESS
    stranger = Browser("203.0.113.9", "")
    codes = [tried(engine, "oli", stranger) for _ in range(free + 1)]
    assert codes == ["sign-in-refused"] * free + ["too-many-tries"]
    assert sessions.sign_in(engine, "oli", PASSWORD, HERE)

    later = replace(engine, clock=lambda: NOW + lasting)
    assert [tried(later, "oli", stranger) for _ in range(2)] == ["sign-in-refused", "too-many-tries"]


def test_a_sign_in_counts_as_no_vain_try(engine, oli, quick):
    for _ in range(2 * BY_NAME_AND_ADDRESS[0]):
        assert sessions.sign_in(engine, "oli", PASSWORD, HERE)


@pytest.mark.parametrize("other", ["2001:db8:1:2:ffff::9", "2001:db8:1:2::1"])
def test_an_ipv6_network_is_one_visitor(engine, quick, other):
    for _ in range(BY_NAME_AND_ADDRESS[0]):
        tried(engine, "oli", Browser("2001:db8:1:2::1", ""))

    assert tried(engine, "oli", Browser(other, "")) == "too-many-tries"
    assert tried(engine, "oli", Browser("2001:db8:1:3::1", "")) == "sign-in-refused"


@pytest.mark.parametrize(
    ("key", "limit", "name", "address"),
    [("name/oli", BY_NAME, "oli", "192.0.2.7"), ("address/192.0.2.7", BY_ADDRESS, "eve", "192.0.2.7")],
)
def test_a_name_and_an_address_have_limits_of_their_own(engine, quick, key, limit, name, address):
    free, lasting = limit
    with engine.ledger.write() as connection:
        for _ in range(free):
            kept.count_try(connection, key, NOW, lasting)

    assert tried(engine, name, Browser(address, "")) == "too-many-tries"
    assert tried(replace(engine, clock=lambda: NOW + lasting), name, Browser(address, "")) == "sign-in-refused"


def test_an_unknown_name_costs_a_line_in_the_journal_too(engine, oli, quick):
    tried(engine, "nobody@example.com", HERE)
    tried(engine, "oli", HERE)

    with engine.ledger.read() as connection:
        for subject in ("sign-in", "user/oli"):
            line = journal.story(connection, subject)[-1]
            assert (line["type"], line["actor"]) == ("user.sign_in_refused", "sign-in")
            assert line["data"] == {"address": HERE.address}


def test_argon2_has_few_turns_and_who_waits_too_long_is_told(engine, oli, monkeypatch):
    monkeypatch.setattr(sessions, "PATIENCE", 0.01)
    for _ in range(sessions.TURNS):
        sessions._turns.acquire()
    try:
        assert tried(engine, "oli", HERE) == "busy"
    finally:
        for _ in range(sessions.TURNS):
            sessions._turns.release()

    assert sessions.sign_in(engine, "oli", PASSWORD, HERE)
