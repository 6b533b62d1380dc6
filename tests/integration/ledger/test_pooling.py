import pytest

from ledger.pooling import hands_around
from ledger.session import Ledger
from tests.support.pooler import Pooler


@pytest.fixture
def opened():
    made = []

    def open_ledger(url):
        made.append(Ledger(url))
        return made[-1]

    yield open_ledger
    for ledger in made:
        ledger.dispose()


@pytest.fixture
def pooler(postgres):
    made = Pooler(postgres.port)
    yield made
    made.close()


def test_a_connection_of_our_own_stays_with_us(opened, database_url):
    assert not hands_around(opened(database_url))


def test_a_pooler_that_shares_by_transaction_is_noticed(opened, postgres, postgres_url, pooler):
    through = opened(postgres_url.replace(f":{postgres.port}/", f":{pooler.port}/"))

    assert hands_around(through)
    with through.read() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
