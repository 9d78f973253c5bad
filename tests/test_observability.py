"""Prometheus' rules and Grafana's dashboard, by Prometheus itself and over what a running service tells it."""

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from itertools import product
from pathlib import Path

import pytest
import yaml
from debian import program
from processes import ask, form, free_port, running

from lib import heartbeat
from lib.alarms import STATES
from lib.storage import PROJECT_ROOT

RULES = PROJECT_ROOT / "deploy" / "prometheus" / "alerts.yml"
CONFIG = PROJECT_ROOT / "deploy" / "prometheus" / "prometheus.yml"
ALERTS = [rule for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]
DASHBOARD = json.loads(
    (PROJECT_ROOT / "deploy" / "grafana" / "dashboards" / "image-classification.json").read_text(encoding="utf-8")
)
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"]}
IMAGE = PROJECT_ROOT / "data" / "sample" / "Bag" / "00023.png"
MINUTES = 200

# Series of 200 minutes in which all is well
WELL = {
    'up{job="serve", instance="a"}': "1x200",
    'model_info{instance="a", task="t", version="v1"}': "1x200",
    'http_requests_total{instance="a", route="/predict", status="200"}': "0+60x200",
    'http_requests_total{instance="a", route="/predict", status="503"}': "0+1x200",
    'http_requests_total{instance="a", route="/predict", status="500"}': "0+0.1x200",
    'requests_refused_total{instance="a"}': "0+1x200",
    'http_request_duration_seconds_bucket{instance="a", route="/predict", le="1"}': "0+60x200",
    'http_request_duration_seconds_bucket{instance="a", route="/predict", le="10"}': "0+60x200",
    'http_request_duration_seconds_bucket{instance="a", route="/predict", le="+Inf"}': "0+60x200",
    'production_log_failures_total{instance="a", task="t"}': "0x200",
    'model_reload_failures_total{instance="a", task="t"}': "0x200",
    'monitoring_state{instance="a", task="t", state="alarm"}': "0x200",
    'monitoring_state{instance="a", task="t", state="warning"}': "1x200",
    'monitoring_timestamp_seconds{instance="a", task="t"}': "0+60x200",
    'predictions_total{instance="a", task="t", decision="accepted"}': "0+60x200",
    'predictions_total{instance="a", task="t", decision="unknown"}': "0+3x200",
}
# Alert -> the series that are otherwise; None takes one away
FAULTS = {
    "ServiceDown": {'up{job="serve", instance="a"}': "1x100 0x100"},
    "ReplicaGone": {'up{job="serve", instance="b"}': "1x150 _x50"},  # Docker forgets its name when it ends
    "NoModel": {'model_info{instance="a", task="t", version="v1"}': None},
    "Errors": {'http_requests_total{instance="a", route="/predict", status="500"}': "0+2x200"},
    "Overload": {'requests_refused_total{instance="a"}': "0+6x200"},
    "Slow": {'http_request_duration_seconds_bucket{instance="a", route="/predict", le="1"}': "0+30x200"},
    "LogNotWritten": {'production_log_failures_total{instance="a", task="t"}': "0x192 1x8"},
    "ModelNotLoaded": {'model_reload_failures_total{instance="a", task="t"}': "0x192 1x8"},
    "ReplicasDisagree": {'model_info{instance="b", task="t", version="v2"}': "1x200"},
    "Drift": {'monitoring_state{instance="a", task="t", state="alarm"}': "1x200"},
    "ManyUnknown": {'predictions_total{instance="a", task="t", decision="unknown"}': "0+30x200"},
    "ReportOld": {'monitoring_timestamp_seconds{instance="a", task="t"}': "0x200"},
    "NoReport": {'monitoring_timestamp_seconds{instance="a", task="t"}': None},
}


@pytest.fixture(scope="session")
def promtool() -> str:
    """Path of Prometheus' checker."""
    return program("prometheus", "promtool")


def firing(promtool: str, folder: Path, series: dict[str, str], expected: list[str]) -> str:
    """What promtool finds wrong if just these alerts are expected at the end; "" for nothing."""
    samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in expected]
    tests = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": f"{MINUTES - 1}m",
                        "exp_samples": samples,
                    }
                ],
            }
        ],
    }
    path = folder / "tests.yml"
    path.write_text(yaml.safe_dump(tests))
    found = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True)
    return "" if found.returncode == 0 else found.stdout + found.stderr


def test_the_alarms_and_the_health_check_are_as_patient_as_each_other():
    rules = {rule["alert"]: rule for rule in ALERTS}
    assert rules["ReportOld"]["expr"].endswith(f"> {heartbeat.LIMIT:.0f}")
    assert rules["NoReport"]["for"] == f"{heartbeat.LIMIT / 3600:.0f}h"


def test_the_rules_and_the_configuration_are_valid(promtool):
    for command in (["check", "rules", RULES], ["check", "config", CONFIG]):
        found = subprocess.run([promtool, *command], capture_output=True, text=True)
        assert found.returncode == 0, found.stderr


def test_no_alert_where_all_is_well(promtool, tmp_path):
    assert firing(promtool, tmp_path, WELL, []) == ""


@pytest.mark.parametrize("alert", [rule["alert"] for rule in ALERTS])
def test_each_alert_fires_for_its_fault_alone(promtool, tmp_path, alert):
    series = {name: values for name, values in (WELL | FAULTS[alert]).items() if values is not None}
    assert firing(promtool, tmp_path, series, [alert]) == ""


def test_a_service_that_nobody_finds_is_down(promtool, tmp_path):
    assert firing(promtool, tmp_path, {'other{instance="a"}': "1x200"}, ["ServiceDown"]) == ""


def metrics_in(expression: str) -> set[str]:
    """Names of the metrics that an expression asks for."""
    plain = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(by|on)\s*\([^)]*\)|\"[^\"]*\"", " ", expression)
    words = set(re.findall(r"\b[a-z][a-z_]*\b(?!\s*\()", plain))
    return words - {"or", "and", "unless", "by", "on", "le"}


def test_metrics_in_an_expression():
    assert metrics_in('sum by (le) (rate(a_total{x="y"}[5m])) / b or absent(up{job="serve"})') == {"a_total", "b", "up"}


@pytest.fixture(scope="module")
def service(tiny_run, shared_environment):
    """A running service that has answered, well and ill, and whose task was monitored."""
    record = {"state": "ok", "since": "", "text": "", "causes": [], "windows": [], "p_value": 0.5,
              "time": "2026-11-27T00:00:00+00:00"}  # fmt: skip
    path = Path(shared_environment["ARTIFACTS_DIR"]) / "tiny" / "monitoring.json"
    before = path.read_bytes() if path.exists() else None
    path.write_text(json.dumps(record))
    with running(shared_environment) as one:
        body, headers = form([IMAGE.read_bytes()] * 3)
        assert ask(one, "POST", "/predict", body, headers)[0] == 200
        assert ask(one, "POST", "/predict", b"no image")[0] == 415
        yield one
    path.unlink() if before is None else path.write_bytes(before)


def test_alerts_and_dashboard_ask_for_metrics_that_the_service_has(service):
    told = ask(service, "GET", "/metrics")[2].decode()
    known = {"up", *re.findall(r"^([a-z_]+)(?:\{.*\})? ", told, re.MULTILINE)}
    targets = [target["expr"] for panel in PANELS.values() for target in panel["targets"]]
    asked = set().union(*map(metrics_in, [rule["expr"] for rule in ALERTS] + targets))
    assert len(asked) > 10
    assert asked - known == set()
    assert set(re.findall(r'monitoring_state\{state="([^"]+)"', told)) == set(STATES)


@pytest.fixture(scope="module")
def prometheus(service, tmp_path_factory):
    """Address of a Prometheus that watches the service by our configuration, but for where it finds it."""
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["rule_files"] = [str(RULES)]
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    job = config["scrape_configs"][0]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{service.port}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [program("prometheus", "prometheus"), f"--config.file={folder / 'prometheus.yml'}",
               f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        yield f"http://127.0.0.1:{port}"
        process.terminate()


def query(address: str, expression: str) -> list:
    """What Prometheus answers to an expression; raises URLError while it is not there."""
    url = f"{address}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)["data"]["result"]


def test_every_panel_has_something_to_show(prometheus):
    until = time.monotonic() + 60
    expressions = {
        target["expr"].replace("$task", "tiny").replace("5m]", "1m]")
        for panel in PANELS.values()
        for target in panel["targets"]
    }
    waiting = set(expressions)
    while waiting and time.monotonic() < until:
        time.sleep(0.5)
        try:
            waiting = {one for one in waiting if not query(prometheus, one)}
        except OSError:
            continue
    assert waiting == set()
    assert {one["metric"]["alertname"] for one in query(prometheus, 'ALERTS{alertstate="firing"}')} <= {"ReportOld"}


def test_the_dashboard_is_laid_out_without_gaps_or_overlaps():
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        columns, rows = (range(place[start], place[start] + place[size]) for start, size in (("x", "w"), ("y", "h")))
        cells = set(product(columns, rows))
        assert not taken & cells
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"prometheus"}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(PANELS) == 18
    provisioned = yaml.safe_load(
        (PROJECT_ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text(encoding="utf-8")
    )
    assert provisioned["datasources"][0]["uid"] == "prometheus"
