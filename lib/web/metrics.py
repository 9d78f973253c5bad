"""GET /metrics: what the service does, in the form that Prometheus reads. No label has values that clients choose."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from flask import Blueprint, Flask, Response, current_app, g, request
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from lib.admission import Admission
from lib.alarms import STATES, read_monitoring
from lib.production import ProductionLogs
from lib.serving import ServedTasks
from lib.web.logs import seconds_so_far

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds
MEASURED = "measured"  # in the app's extensions
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")

blueprint = Blueprint("metrics", __name__)


class State:
    """A collector that reads counts where they are kept, when it is asked.

    Parameters
    ----------
    tasks : ServedTasks
    admission : Admission
    logs : ProductionLogs or None
    """

    def __init__(self, tasks: ServedTasks, admission: Admission, logs: ProductionLogs | None):
        self._tasks, self._admission, self._logs = tasks, admission, logs

    def describe(self) -> list[Metric]:
        """Nothing, so that registering it asks for nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        """What is at work, and what became of models and logs."""
        yield GaugeMetricFamily("requests_in_flight", "Accepted and not finished.", self._admission.n_inflight)
        yield CounterMetricFamily("requests_refused", "Sent away, for there was too much.", self._admission.n_refused)
        yield GaugeMetricFamily("draining", "1 once the process is about to end.", float(self._admission.draining))
        loads = CounterMetricFamily("model_reloads", "Models that took over.", labels=["task"])
        failures = CounterMetricFamily("model_reload_failures", "Models that could not be loaded.", labels=["task"])
        model = InfoMetricFamily("model", "The version that answers.", labels=["task"])
        for served in self._tasks.loaded():
            loads.add_metric([served.name], served.n_loads)
            failures.add_metric([served.name], served.n_failures)
            if served.answering:
                model.add_metric([served.name], {"version": served.answering})
        yield from (loads, failures, model, *_monitored(served.name for served in self._tasks.loaded()))
        lost = CounterMetricFamily("production_log_failures", "Rows that could not be written.", labels=["task"])
        for log in self._logs.opened() if self._logs else ():
            lost.add_metric([log.task], log.n_failed)
        yield lost


def _monitored(tasks: Iterable[str]) -> list[Metric]:
    """What the last monitoring of each task said."""
    state = GaugeMetricFamily("monitoring_state", "1 for the state that monitoring is in.", labels=["task", "state"])
    p_value = GaugeMetricFamily("monitoring_p_value", "Of the newest window, small if it differs.", labels=["task"])
    made = GaugeMetricFamily("monitoring_timestamp_seconds", "When monitoring was last made.", labels=["task"])
    for task in tasks:
        if record := read_monitoring(task):
            for name in STATES:
                state.add_metric([task, name], float(record["state"] == name))
            if record.get("p_value") is not None:
                p_value.add_metric([task], record["p_value"])
            made.add_metric([task], datetime.fromisoformat(record["time"]).timestamp())
    return [state, p_value, made]


class Measured:
    """The metrics of an app.

    Parameters
    ----------
    state : State
    """

    def __init__(self, state: State):
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector):
            collector(registry=self.registry)
        self.registry.register(state)
        self.requests = Counter(
            "http_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "http_request_duration_seconds", "Until the answer is ready.", ["route"], buckets=BUCKETS,
            registry=self.registry,
        )  # fmt: skip
        self.predictions = Counter("predictions", "Images answered.", ["task", "decision"], registry=self.registry)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self.requests.labels(method if method in METHODS else "other", route, status).inc()
        self.seconds.labels(route).observe(seconds)


@blueprint.get("/metrics")
def metrics() -> Response:
    """Every metric, as text."""
    return Response(generate_latest(current_app.extensions[MEASURED].registry), content_type=CONTENT_TYPE_LATEST)


def measure(app: Flask, state: State) -> None:
    """Count every request of an app, and answer /metrics."""
    measured = app.extensions[MEASURED] = Measured(state)
    app.register_blueprint(blueprint)

    @app.after_request
    def count(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "none"
        measured.count(request.method, route, response.status_code, seconds_so_far())
        for task, decision in g.get("decisions", ()):
            measured.predictions.labels(task, decision).inc()
        return response
