"""Settings out of Vault, over a real socket; the answers are its documentation's (KV secrets engine, version 2)."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from config.settings import SettingsError, load_settings
from tests.support.settings import ENCRYPTION_KEY, INDEX_KEY

TOKEN = "hvs.CAESIJ"
SECRET = {"secret_key": "sk_test_of_vault", "number": 7}


class Vault(BaseHTTPRequestHandler):
    """One secret at secret/refundry/smartpay; another that the token may not read; one that is broken."""

    def do_GET(self):
        self.server.heard.append({name.lower(): value for name, value in self.headers.items()})
        status, body = self.answer()
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def answer(self):
        if self.headers["X-Vault-Token"] != TOKEN or self.path == "/v1/secret/data/others":
            return 403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}
        if self.path == "/v1/secret/data/refundry/smartpay":
            return 200, {"request_id": "r", "data": {"data": SECRET, "metadata": {"version": 2}}}
        if self.path == "/v1/secret/data/sealed":
            return 503, {"errors": ["Vault is sealed"]}
        return 404, {"errors": []}

    def log_message(self, *_):
        """Nothing."""


@pytest.fixture
def vault():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Vault)
    server.heard = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def load(vault, tmp_path, reference, **environ):
    (tmp_path / "refundry.toml").write_text(
        f'[security]\nencryption_keys = ["{ENCRYPTION_KEY}"]\nindex_key = "{INDEX_KEY}"\n'
        f'[accounts.shop]\nprovider = "smartpay"\nsecret_key = "{reference}"\n'
    )
    known = {"VAULT_ADDR": f"http://127.0.0.1:{vault.server_port}/", "VAULT_TOKEN": TOKEN}
    return load_settings({**known, **environ}, tmp_path)


def test_a_secret_comes_out_of_vault(vault, tmp_path):
    settings = load(vault, tmp_path, "vault:secret/refundry/smartpay#secret_key", VAULT_NAMESPACE="pay/")

    assert settings.accounts["shop"].options["secret_key"] == "sk_test_of_vault"
    [heard] = vault.heard
    assert (heard["x-vault-request"], heard["x-vault-namespace"]) == ("true", "pay/")


def test_the_token_may_lie_in_a_file(vault, tmp_path):
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    file = {"VAULT_TOKEN": "", "VAULT_TOKEN_FILE": str(tmp_path / "token")}

    assert load(vault, tmp_path, "vault:secret/refundry/smartpay#secret_key", **file).accounts["shop"].options


@pytest.mark.parametrize(
    ("reference", "environ", "reason"),
    [
        ("vault:secret/refundry/smartpay#other", {}, "the secret secret/refundry/smartpay to have other"),
        ("vault:secret/refundry/smartpay#number", {}, "to be a text"),
        ("vault:secret/others#secret_key", {}, "the token to be allowed to read secret/others"),
        ("vault:secret/refundry/smartpay#secret_key", {"VAULT_TOKEN": "wrong"}, "the token to be allowed to read"),
        ("vault:secret/nothing#secret_key", {}, "the secret secret/nothing to be there"),
        ("vault:secret/sealed#secret_key", {}, "Vault to answer (HTTP 503)"),
        ("vault:secret/refundry/smartpay", {}, "vault:MOUNT/PATH#KEY"),
        ("vault:secret/../sys/seal#x", {}, "vault:MOUNT/PATH#KEY"),
        ("vault:secret/refundry/smartpay#secret_key", {"VAULT_ADDR": ""}, "VAULT_ADDR to be set"),
        ("vault:secret/refundry/smartpay#secret_key", {"VAULT_ADDR": "http://vault.example"}, "to begin with https://"),
        ("vault:secret/refundry/smartpay#secret_key", {"VAULT_ADDR": "http://127.0.0.1:9"}, "Vault to answer (Connect"),
        ("vault:secret/refundry/smartpay#secret_key", {"VAULT_TOKEN": ""}, "to hold a token"),
        ("vault:secret/refundry/smartpay#secret_key", {"VAULT_TOKEN": "a\nX: b"}, "to hold a token"),
    ],
)
def test_what_cannot_be_read_is_a_fault_of_its_setting_and_tells_no_secret(vault, tmp_path, reference, environ, reason):
    with pytest.raises(SettingsError) as fault:
        load(vault, tmp_path, reference, **environ)

    assert "accounts.shop.secret_key" in str(fault.value)
    assert reason in str(fault.value)
    assert TOKEN not in str(fault.value)
