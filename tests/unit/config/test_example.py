import re
from pathlib import Path

import pytest

from config.settings import load_settings

EXAMPLE = Path(__file__).parents[3] / "refundry.example.toml"
KEY = "A" * 43 + "="
#: The provider's own keys, as the contract lists them; those with a default may be left out of the example.
OWN_KEYS = {
    "smartpay": {"secret_key", "webhook_secret"},
    "smartretry": {"api_key", "terminal_id", "webhook_secret"},
    "jpm_smartpay": {"merchant_key", "oauth", "origin", "webhook_user", "webhook_password"},
    "smart2pay": {"site_id", "api_key", "flavour"},
    "smart_glocal": {"project", "private_key", "provider_public_key"},
}


@pytest.fixture
def example():
    return EXAMPLE.read_text(encoding="utf-8")


def test_the_example_can_be_used_as_it_is(tmp_path, example):
    (tmp_path / "refundry.toml").write_text(example)
    keys = {"REFUNDRY_ENCRYPTION_KEYS": KEY, "REFUNDRY_INDEX_KEY": "index-key-of-the-tests"}

    settings = load_settings(keys, tmp_path)

    assert settings == load_settings(keys, tmp_path / "nowhere")


def test_every_setting_it_shows_is_understood(tmp_path, example):
    shown = re.sub(r"^#(?=[a-z\[])", "", example, flags=re.MULTILINE)
    without_doubles = shown.replace('url = "sqlite:///refundry.db"\n', "", 1)
    (tmp_path / "refundry.toml").write_text(without_doubles)
    variables = dict.fromkeys(re.findall(r"\$\{(\w+)\}", shown), "https://x.example.com")

    settings = load_settings(variables | {"REFUNDRY_ENCRYPTION_KEYS": KEY}, tmp_path)

    found = {account.provider: set(account.options) for account in settings.accounts.values()}
    assert found == OWN_KEYS
    assert settings.accounts["glocal"].retry_backoff.cap == 900
