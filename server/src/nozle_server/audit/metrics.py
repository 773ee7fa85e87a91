"""What the last scheduled audit found, for Prometheus. Labels are names of checks, never an organization or an id."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from nozle_server.audit.model import LastResult


def render_results(results: Sequence[LastResult]) -> str:
    """Prometheus text, version 0.0.4; nothing before the first run, so that its absence shows."""
    if not results:
        return ""
    registry = CollectorRegistry()
    findings = Gauge(
        "nozle_audit_findings", "Rows that differ, by check of the last audit.", ("check",), registry=registry
    )
    for one in results:
        findings.labels(one.check_name).set(one.findings_count)
    Gauge("nozle_audit_last_run_timestamp_seconds", "When the last audit looked.", registry=registry).set(
        max(one.audited_at for one in results).timestamp()
    )
    return generate_latest(registry).decode()
