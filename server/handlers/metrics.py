"""The tables' numbers in Prometheus' form; every process that is asked tells the same."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Gauge

HELP = {
    "meters": "Meters known",
    "meters_silent": "Meters without a trusted reading for half an hour",
    "meters_with_finding": "Meters whose last try found something wrong",
    "relays_disconnected": "Relays read back as disconnected",
    "relays_unconfirmed": "Relays whose desired state is not read back yet",
    "relay_cases": "Relays that need a person",
    "payment_notices_open": "Payment notices kept and not settled",
    "payment_cases_open": "Payments that need a person",
    "reconciliation_days_behind": "Merchants' days tried in the last two hours, not compared whole",
    "reconciliation_differences": "Differences from platforms' bills, not cured and not decided",
    "reconciliation_last_day_seconds": "Midnight (UTC) of the newest day that was compared whole,"
    " of the merchant that is most behind",
    "outbox_open": "Messages that wait to be sent",
    "bus_jobs_open": "Jobs that wait for a bus",
    "gateways_unowned": "Gateways that no collector holds",
    "sites_without_holidays": "Sites whose prices or quiet hours ask for holidays of a year that"
    " is not known, now or in 60 days",
}


def table_metrics(numbers: Mapping[str, int]) -> CollectorRegistry:
    """A registry of gauges `mallwatt_<name>`."""
    registry = CollectorRegistry()
    for name, value in numbers.items():
        Gauge(f"mallwatt_{name}", HELP[name], registry=registry).set(value)
    return registry
