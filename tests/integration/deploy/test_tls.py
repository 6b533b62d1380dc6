"""Redis and PostgreSQL over TLS: the certificate is checked by everything that connects."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest
import redis
from sqlalchemy.exc import OperationalError

from ledger.session import Ledger
from signals.client import connect
from tests.support.certificates import make_certificates
from tests.support.gate import Gate
from tests.support.servers import PostgresServer
from tests.support.stack import Stack


@pytest.fixture
def certificates(tmp_path):
    return make_certificates(tmp_path / "certificates")


class TlsRedis:
    """As a Stack needs it: its URL is that of the TLS front."""

    def __init__(self, server, front, authority):
        self._server = server
        self.url = f"rediss://127.0.0.1:{front.port}/0?ssl_cert_reqs=required&ssl_ca_certs={authority}"

    def client(self):
        return connect(self.url)


@pytest.fixture
def front(certificates, redis_server):
    # What stunnel does for a Redis that speaks no TLS itself, as the one in the wheel.
    front = Gate("127.0.0.1", redis_server.port, tls=certificates)
    yield front
    front.close()


@pytest.fixture
def running(tmp_path, sqlite_url, redis_server, front, certificates):
    stack = Stack(tmp_path / "stack", sqlite_url, TlsRedis(redis_server, front, certificates.authority))
    yield stack
    stack.stop()


def test_the_whole_system_works_over_a_redis_behind_tls(running):
    stack = running.start()
    with stack.redis.client() as client:
        for job in stack.jobs("smartretry", 3):
            client.xadd("refundry:intake", {"job": json.dumps(job)})

    assert stack.settle(3) == {"succeeded": 3}


def test_a_redis_with_a_stranger_s_certificate_is_refused(front, tmp_path):
    stranger = make_certificates(tmp_path / "stranger")

    for trusted in ("", f"?ssl_ca_certs={stranger.authority}"):
        with pytest.raises(redis.exceptions.ConnectionError, match="certificate verify failed"):
            connect(f"rediss://127.0.0.1:{front.port}/0{trusted}").ping()


class TlsPostgres(PostgresServer):
    """A system PostgreSQL, for the wheel's is built without TLS; only TLS connections are let in."""

    def protect(self, certificates):
        if not self.data.exists():
            self._init()
        for source, name in ((certificates.certificate, "server.crt"), (certificates.key, "server.key")):
            copied = Path(shutil.copy(source, self.data / name))
            copied.chmod(0o600)
            if self._user is not None:
                os.chown(copied, self._user, self._user)
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write("ssl = on\n")
        (self.data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\n")


def _speaks_tls(programs):
    told = subprocess.run([programs / "pg_config", "--configure"], capture_output=True, text=True, check=False).stdout
    return "--with-openssl" in told or "--with-ssl=openssl" in told


@pytest.fixture
def tls_postgres(certificates, monkeypatch):
    from tests.support import servers

    able = [
        programs for programs in servers._of_the_system() if (programs / "pg_config").exists() and _speaks_tls(programs)
    ]
    if not able:
        pytest.skip("needs a PostgreSQL with TLS from the system's packages (apt-get install postgresql)")
    monkeypatch.setattr(servers, "_of_the_wheel", lambda: able[0])
    server = TlsPostgres()
    server.protect(certificates)
    server.start()
    yield server
    server.stop()
    server.remove()


def test_a_ledger_behind_tls_is_verified(tls_postgres, certificates, tmp_path):
    base = f"postgresql+psycopg://postgres@127.0.0.1:{tls_postgres.port}/postgres"
    stranger = make_certificates(tmp_path / "stranger")
    ledger = Ledger(f"{base}?sslmode=verify-full&sslrootcert={certificates.authority}")

    with ledger.read() as connection:
        assert connection.exec_driver_sql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").scalar() is True
    for refused in ("sslmode=disable", f"sslmode=verify-full&sslrootcert={stranger.authority}"):
        with pytest.raises(OperationalError) as refusal, Ledger(f"{base}?{refused}").read():
            pass
        assert isinstance(refusal.value.orig, psycopg.OperationalError)
    ledger.dispose()
