"""What one collector process counts."""

from prometheus_client import Counter, Gauge

GATEWAYS = Gauge("mallwatt_collector_gateways", "Gateways that this process owns")
LOST = Counter("mallwatt_collector_gateways_lost_total", "Gateways whose lease was lost")
POLLS = Counter("mallwatt_collector_polls_total", "Meters asked for a reading", ["outcome"])
READINGS = Counter("mallwatt_collector_readings_total", "Readings by how they ended", ["verdict"])
DROPPED = Counter("mallwatt_collector_readings_dropped_total", "Readings that could not be kept")
DEVICE_FAILURES = Counter(
    "mallwatt_collector_device_failures_total", "What went wrong with meters", ["code"]
)
CONTROLS = Counter("mallwatt_collector_controls_total", "Relay jobs", ["action", "outcome"])
JOBS = Counter("mallwatt_collector_jobs_total", "Jobs asked by others", ["kind", "outcome"])
