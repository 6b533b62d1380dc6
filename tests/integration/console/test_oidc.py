"""Signing in at an identity provider, with a small one that runs here."""

import hmac
import json
import re
import threading
import time
from base64 import urlsafe_b64encode
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from engine import people
from tests.support.console import FIRST, ConsoleServer

KEY = RSAKey.generate_key(2048, {"kid": "k1"})
OTHER = RSAKey.generate_key(2048, {"kid": "k1"})


class Provider(ThreadingHTTPServer):
    """Authorization code with PKCE; `claims` changes what it says, `key` what it signs with."""

    claims: dict[str, object]
    key = KEY
    granted: dict[str, dict[str, str]]

    @property
    def issuer(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self):
        at = urlsplit(self.path)
        issuer = self.server.issuer
        if at.path == "/.well-known/openid-configuration":
            found = {"issuer": issuer, "authorization_endpoint": f"{issuer}/authorize"}
            self._json({**found, "token_endpoint": f"{issuer}/token", "jwks_uri": f"{issuer}/keys"})
        elif at.path == "/keys":
            self._json({"keys": [KEY.as_dict(private=False)]})
        else:
            asked = {name: values[0] for name, values in parse_qs(at.query).items()}
            self.server.granted["code-1"] = asked
            self.send_response(302)
            self.send_header(
                "location", f"{asked['redirect_uri']}?{urlencode({'code': 'code-1', 'state': asked['state']})}"
            )
            self.end_headers()

    def do_POST(self):
        form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        asked = self.server.granted.pop(form["code"][0])
        challenge = urlsafe_b64encode(sha256(form["code_verifier"][0].encode()).digest()).rstrip(b"=").decode()
        assert asked["code_challenge"] == challenge
        claims = {"iss": self.server.issuer, "aud": "refundry", "exp": int(time.time()) + 60, "nonce": asked["nonce"]}
        token = jwt.encode({"alg": "RS256", "kid": "k1"}, {**claims, **self.server.claims}, self.server.key)
        self._json({"access_token": "x", "token_type": "Bearer", "id_token": token})

    def _json(self, body):
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def provider():
    server = Provider(("127.0.0.1", 0), Handler)
    server.granted = {}
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def single(system, provider):
    """A console whose users come from the provider."""
    path = system.folder / "refundry.toml"
    path.write_text(
        path.read_text()
        + f'[console.oidc]\nissuer = "{provider.issuer}"\nclient_id = "refundry"\nclient_secret = "s"\n'
        'roles = {"ops" = "operator", "second" = "approver"}\nlabel = "Shop login"\n'
    )
    people.create(system.engine, FIRST, "ada", frozenset({people.Role.ADMIN}))
    return ConsoleServer(system).start()


def sign_in(single, provider, **claims):
    """What a browser does: there, to the provider, and back."""
    provider.claims = claims
    with httpx.Client(timeout=20) as client:
        page = client.get(f"{single.url}/sign-in").text
        assert "Shop login" in page
        assert "Password" not in page
        there = client.get(f"{single.url}/sign-in/oidc?next=/dead")
        back = client.get(there.headers["location"]).headers["location"]
        answer = client.get(back)
        return answer, client.get(f"{single.url}/refunds") if answer.status_code == 303 else None


def test_groups_are_roles_and_one_comes_back_to_where_one_wanted(single, provider):
    answer, page = sign_in(single, provider, sub="1", preferred_username="Oli", groups=["ops", "elsewhere"])

    assert answer.headers["location"] == "/dead"
    assert page.status_code == 200
    assert re.search(r"<strong>oli</strong>", page.text)
    assert "operator" in page.text
    changed, _ = sign_in(single, provider, sub="1", preferred_username="oli", groups=["second"])
    assert changed.status_code == 303
    kept = {each.name: each.roles for each in people.everybody(single.stack.engine)}
    assert kept["oli"] == ("approver",)


def test_nobody_becomes_another_person_by_taking_their_name(single, provider):
    sign_in(single, provider, sub="2", preferred_username="una", groups=["ops"])
    for name in ("una", "ada", "system", "x y"):
        answer, _ = sign_in(single, provider, sub="3", preferred_username=name, groups=["ops"])
        assert answer.status_code == 403, name


def test_who_has_no_role_is_told_so(single, provider):
    answer, _ = sign_in(single, provider, sub="4", preferred_username="nil", groups=[])

    assert answer.status_code == 403
    assert "no role yet" in answer.text


@pytest.mark.parametrize(
    "claims",
    [{"aud": "another"}, {"iss": "https://elsewhere.example"}, {"exp": 1}, {"nonce": "another"}],
)
def test_a_token_for_somebody_else_is_none(single, provider, claims):
    answer, _ = sign_in(single, provider, sub="5", preferred_username="eve", groups=["ops"], **claims)

    assert answer.status_code == 403


def test_a_token_of_another_key_is_none(single, provider):
    provider.key = OTHER
    try:
        answer, _ = sign_in(single, provider, sub="6", preferred_username="eve", groups=["ops"])
    finally:
        provider.key = KEY

    assert answer.status_code == 403


def test_a_way_back_that_began_in_another_browser_leads_nowhere(single, provider):
    provider.claims = {"sub": "7", "preferred_username": "eve", "groups": ["ops"]}
    with httpx.Client(timeout=20) as client:
        there = client.get(f"{single.url}/sign-in/oidc")
        back = client.get(there.headers["location"]).headers["location"]
    with httpx.Client(timeout=20) as other:
        assert other.get(back).status_code == 403


@pytest.mark.parametrize(("until", "status"), [(-1, 403), (60, 303)])
def test_whoever_comes_back_too_late_begins_again(single, provider, until, status):
    provider.claims = {"sub": "8", "preferred_username": "lea", "groups": ["ops"]}
    with httpx.Client(timeout=20) as client:
        there = client.get(f"{single.url}/sign-in/oidc")
        back = client.get(there.headers["location"]).headers["location"]
        kept = json.loads(bytes.fromhex(client.cookies["refundry_oidc"].partition(".")[0]))
        assert 0 < kept["until"] - time.time() <= 600
        content = json.dumps(kept | {"until": time.time() + until}).encode()
        sealed = hmac.new(b"s", b"state:" + content, sha256).hexdigest()
        cookie = {"cookie": f"refundry_oidc={content.hex()}.{sealed}"}
        answer = httpx.get(back, headers=cookie, timeout=20)

    assert answer.status_code == status
    assert ("took too long" in answer.text) is (status == 403)


def test_there_is_no_password_to_try(single):
    form = {"name": "ada", "password": "correct horse battery"}
    answer = httpx.post(f"{single.url}/sign-in", data=form, headers={"sec-fetch-site": "same-origin"})

    assert answer.status_code == 404


def test_a_state_that_we_did_not_make_asks_the_provider_nothing(single, provider):
    with httpx.Client(timeout=20) as client:
        there = client.get(f"{single.url}/sign-in/oidc")
        back = client.get(there.headers["location"]).headers["location"]
        content, _, mac = client.cookies["refundry_oidc"].partition(".")
        for forged in (content, f"{content}.{mac[::-1]}", f"{'00' * 9}.{mac}", "x.y", ""):
            answer = httpx.get(back, headers={"cookie": f"refundry_oidc={forged}"})
            assert answer.status_code == 403, forged

    assert "code-1" in provider.granted
