"""Every metric that an alert or a panel names is in a scrape of a system that has paid refunds."""

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from api.figures import Figures
from engine.meter import PAUSE
from tests.support.processes import wait_until
from tests.support.stack import Stack

ROOT = Path(__file__).parents[3]
ALERTS = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"][0]["rules"]
PANELS = json.loads((ROOT / "deploy/grafana/refundry.json").read_text())["panels"]
QUERIES = {rule["alert"]: rule["expr"] for rule in ALERTS} | {
    panel["title"]: target["expr"] for panel in PANELS for target in panel["targets"]
}
NAME = re.compile(r"refundry_\w+")
LABEL = re.compile(r"(refundry_\w+)\{(\w+)")


@pytest.fixture
def system(tmp_path, database_url, redis_server):
    stack = Stack(tmp_path / "stack", database_url, redis_server)
    yield stack.start()
    stack.stop()


def scraped(figures):
    content, _ = figures.text()
    return list(text_string_to_metric_families(content.decode()))


def test_every_metric_that_is_named_is_there_and_counts_what_workers_did(system):
    system.faults({"provider": "smartpay", "call": "refund", "fault": "decline", "first": 1})
    system.enqueue([*system.jobs("smartpay", 3), *system.jobs("smartretry", 3)])
    system.settle(6)
    figures = Figures(system.engine)
    figures.watch("/v1/refunds", 202, 0.01)

    def everything_counted():
        found = total(scraped(figures), "refundry_attempts_total")
        return found >= 6

    wait_until(everything_counted, timeout=PAUSE * 12, what="the workers' counts")
    families = scraped(figures)
    names = {sample.name for family in families for sample in family.samples}
    # What nothing is known of, such as money of unknown outcome, is declared without a sample.
    declared = names | set(re.findall(r"^# TYPE (\S+)", figures.text()[0].decode(), re.MULTILINE))

    assert {name for query in QUERIES.values() for name in NAME.findall(query)} <= declared
    assert total(families, "refundry_accepted_total") == 6
    assert total(families, "refundry_attempts_total", outcome="declined") == 1
    assert total(families, "refundry_succeeded_amount_total", currency="JPY") == 2000
    assert total(families, "refundry_attempt_seconds_count") == total(families, "refundry_attempts_total")
    assert total(families, "refundry_attempt_seconds_bucket", le="+Inf") == total(families, "refundry_attempts_total")
    assert total(families, "refundry_recon_open", kind="duplicate_at_provider") == 0


def total(families, name, **labels):
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_every_alert_has_words_and_a_page_that_is_there():
    for rule in ALERTS:
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        headings = [line for line in (ROOT / page).read_text().splitlines() if line.startswith("#")]
        slugs = {re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).strip().replace(" ", "-") for line in headings}

        assert rule["annotations"]["summary"]
        assert not anchor or anchor in slugs, (rule["alert"], slugs)
        assert rule["labels"]["severity"] in ("page", "ticket")
