//! Tests of `deploy/`: real Prometheus, Alertmanager, InfluxDB, rotel and compose read its files, around real servers. This library
//! is empty; the tests stand in `tests/observability`. They never need a container.
