import base64

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.errors import ConfigurationError
from ledger.vault import Vault

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))


def test_what_is_sealed_is_unreadable_and_opens_again():
    vault = Vault([OLD], "index")
    sealed = vault.seal(b"john@example.com")

    assert b"john" not in sealed
    assert vault.open(sealed) == b"john@example.com"


def test_the_first_key_seals_and_every_key_opens():
    sealed = Vault([OLD], "index").seal(b"x")
    both = Vault([NEW, OLD], "index")

    assert both.open(sealed) == b"x"
    assert Vault([NEW], "index").open(both.rotate(sealed)) == b"x"


def test_without_its_key_nothing_opens():
    sealed = Vault([OLD], "index").seal(b"x")

    with pytest.raises(ConfigurationError, match="none of them opens a stored value"):
        Vault([NEW], "index").open(sealed)


def test_what_was_tampered_with_does_not_open():
    vault = Vault([OLD], "index")
    whole = vault.seal(b"x")

    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        with pytest.raises(ConfigurationError):
            vault.open(bytes(changed))
    for length in range(len(whole)):
        with pytest.raises(ConfigurationError):
            vault.open(whole[:length])


def test_the_same_content_is_never_sealed_alike():
    vault = Vault([OLD], "index")

    assert len({vault.seal(b"x") for _ in range(100)}) == 100


def test_what_was_sealed_as_a_fernet_token_opens_and_is_rotated():
    token = Fernet(OLD).encrypt(b"x")
    vault = Vault([NEW, OLD], "index")
    rotated = vault.rotate(token)

    assert vault.open(token) == b"x"
    assert Vault([NEW], "index").open(rotated) == b"x"


def test_the_configured_key_itself_opens_nothing():
    sealed = Vault([OLD], "index").seal(b"x")
    configured = AESGCM(base64.urlsafe_b64decode(OLD))

    with pytest.raises(InvalidTag):
        configured.decrypt(sealed[1:13], sealed[13:], sealed[:1])


@pytest.mark.parametrize(
    ("keys", "index", "words"),
    [([], "index", "must both be set"), ([OLD], "", "must both be set"), (["short"], "index", "must be a Fernet key")],
)
def test_keys_that_cannot_work_are_refused_and_not_printed(keys, index, words):
    with pytest.raises(ConfigurationError, match=words) as caught:
        Vault(keys, index)

    assert "short" not in str(caught.value)


def test_equal_names_have_equal_hashes_however_they_are_written():
    vault = Vault([OLD], "index")

    assert vault.index("name", "  JOHN   Straße ") == vault.index("name", "john strasse")
    assert vault.index("name", "ﬁnn") == vault.index("name", "FINN")


def test_a_hash_depends_on_its_kind_and_its_key():
    vault = Vault([OLD], "index")

    assert vault.index("email", "x") != vault.index("name", "x")
    assert vault.index("email", "x") != Vault([OLD], "other").index("email", "x")
    assert vault.index("email", "x") == Vault([NEW], "index").index("email", "x")


@pytest.mark.parametrize("nothing", [None, "", "   "])
def test_nothing_has_no_hash(nothing):
    assert Vault([OLD], "index").index("email", nothing) is None
