"""What Prometheus reads, by Prometheus's own parser, and what the dashboard and the alerts make of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from momclient import MoMClient
from tests.cluster import Cluster
from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent.parent
MONITORING = ROOT / "docker" / "monitoring"
NAME = re.compile(r"\b(?:rmom|process)_[a-z_]+\b")


def scraped(url: str) -> dict[str, Metric]:
    answer = httpx.get(f"{url}/metrics", timeout=60, trust_env=False)
    assert answer.headers["content-type"].replace(" ", "") == "text/plain;version=0.0.4;charset=utf-8"
    families = list(text_string_to_metric_families(answer.text))
    names = [family.name for family in families]
    assert len(names) == len(set(names)), "a family is told of twice"
    for family in families:
        assert family.documentation, f"{family.name} has no help"
        assert family.type in ("counter", "gauge", "histogram"), f"{family.name} is of the type {family.type}"
        labels = [(sample.name, *sorted(sample.labels.items())) for sample in family.samples]
        assert labels, f"{family.name} has no samples"
        assert len(labels) == len(set(labels)), f"{family.name} has a series twice"
        if family.type == "histogram":
            whole(family)
    return {family.name: family for family in families}


def whole(histogram: Metric) -> None:
    """Check that the buckets ascend and end with all that was counted."""
    buckets = [sample for sample in histogram.samples if sample.name.endswith("_bucket")]
    counts = [sample.value for sample in buckets]
    assert counts == sorted(counts)
    assert buckets[-1].labels["le"] == "+Inf"
    assert [sample.value for sample in histogram.samples if sample.name.endswith("_count")] == [counts[-1]]


@pytest.fixture
def metrics(cluster: Cluster, queue: str) -> Iterator[list[dict[str, Metric]]]:
    """What all processes tell while a queue is in use."""
    with (
        MoMClient(cluster.manager) as client,
        client.pusher(queue) as pusher,
        client.subscriber(client.create_channel(queue)) as subscriber,
    ):
        pusher.push("monitored")
        next(iter(subscriber))
        moms = [f"http://{mom.host}:{mom.port}" for mom in cluster.moms()]
        yield [scraped(url) for url in (*moms, *cluster.managers)]


def test_what_the_dashboard_the_alerts_and_the_documentation_name_is_there(metrics: list[dict[str, Metric]]) -> None:
    samples = {sample.name for families in metrics for family in families.values() for sample in family.samples}
    dashboard = json.loads((MONITORING / "grafana" / "dashboards" / "rusty-mom.json").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    shown += [variable["query"]["query"] for variable in dashboard["templating"]["list"]]
    alerts = (MONITORING / "alerts.yaml").read_text()
    documentation = (ROOT / "docs" / "monitoring.md").read_text()
    families = {sample.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for sample in samples}
    for source in (*shown, *re.findall(r"expr: (.*)", alerts)):
        assert set(NAME.findall(source)) <= samples, source
    assert len(shown) > 30
    assert set(NAME.findall(documentation)) == families
    for alert in re.findall(r"alert: (\w+)", alerts):
        assert f"| `{alert}` |" in documentation


def test_each_mom_is_up_one_manager_leads_and_what_was_pushed_is_counted(
    metrics: list[dict[str, Metric]], cluster: Cluster, queue: str
) -> None:
    def labelled(families: dict[str, Metric], name: str, label: str) -> list[float]:
        samples = families[name].samples if name in families else []
        return [sample.value for sample in samples if label in sample.labels.values()]

    pushed = [value for families in metrics for value in labelled(families, "rmom_queue_pushed_messages", queue)]
    assert pushed == [1]

    def settled() -> bool:
        managers = [scraped(url) for url in cluster.managers]
        up = [labelled(families, "rmom_manager_moms", "up") for families in managers]
        leads = [families["rmom_manager_leads"].samples[0].value for families in managers]
        return sum(leads) == 1 and all(count == [len(cluster.moms())] for count in up)

    # Tests before this one may have frozen a manager.
    until("one manager leads, and all know that each MoM is up", settled)


def test_an_answer_carries_the_id_of_its_request(cluster: Cluster) -> None:
    def answered(**headers: str) -> str:
        answer = httpx.get(f"{cluster.manager}/no-such-path", headers=headers, timeout=60, trust_env=False)
        return answer.headers["x-request-id"]

    assert answered(**{"X-Request-Id": "order-7"}) == "order-7"
    assert len(answered(**{"X-Request-Id": "forged line"})) == 36
    assert answered() != answered()
