"""What a server measures of itself, for Prometheus."""

import prometheus_client as prometheus

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """The measures of one server, apart from those of others in the process."""

    def __init__(self):
        self.registry = registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=registry)
        self.requests = prometheus.Counter(
            "tfdense_requests",
            "requests by what became of them (status of HTTP)",
            ["protocol", "signature", "status"],
            registry=registry,
        )
        self.latency = prometheus.Histogram(
            "tfdense_request_seconds",
            "from the whole request to the whole answer",
            ["protocol"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.waiting = prometheus.Histogram(
            "tfdense_queue_seconds", "spent in the queue", buckets=_SECONDS, registry=registry
        )
        self.computing = prometheus.Histogram(
            "tfdense_compute_seconds",
            "of the network for a batch",
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch = prometheus.Histogram(
            "tfdense_batch_pairs",
            "pairs that were computed in one batch",
            buckets=(1, 2, 4, 8, 16),
            registry=registry,
        )
        self.confidence = prometheus.Histogram(
            "tfdense_confidence",
            "mean confidence of a pair",
            buckets=[0.1 * i for i in range(1, 10)],
            registry=registry,
        )
        self.queue = prometheus.Gauge(
            "tfdense_queue_requests", "requests that wait", registry=registry
        )
        self.version = prometheus.Gauge(
            "tfdense_model_version", "version that answers", ["model"], registry=registry
        )

    def text(self) -> bytes:
        """Returns all in Prometheus' text format."""
        return prometheus.generate_latest(self.registry)
