"""What the watch and its subscriber have done, as Prometheus metrics."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingest.subscriber import Subscriber
from monitor.engine import Watch


class _WatchFigures(Collector):
    def __init__(self, watch: Watch, subscriber: Subscriber) -> None:
        self.watch = watch
        self.subscriber = subscriber

    def collect(self) -> Iterator[Metric]:
        counters = self.watch.counters
        yield _count("fettle_messages_accepted", "Readings and events stored.", counters.accepted)
        yield _count("fettle_messages_late", "Of these, found late: they amend the history only.", counters.late)
        yield _count("fettle_messages_redelivered", "Messages that had been taken before.", counters.redelivered)
        yield _count("fettle_batches", "Commits of the watch.", counters.batches)
        yield _count("fettle_findings", "What detectors found, openings and clearings.", counters.findings)
        rejected = CounterMetricFamily("fettle_messages_rejected", "Dead letters, by reason.", labels=["reason"])
        for reason, count in sorted(counters.rejected.items()):
            rejected.add_metric([reason], count)
        yield rejected
        yield GaugeMetricFamily("fettle_broker_connected", "1 while the broker is connected.",
                                value=float(self.subscriber.connected))  # fmt: skip


def _count(name: str, documentation: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, documentation, value=value)


def watch_metrics(watch: Watch, subscriber: Subscriber) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_WatchFigures(watch, subscriber))
    return registry
