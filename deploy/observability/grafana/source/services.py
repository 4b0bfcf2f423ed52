"""Services: which processes and roles are up, what is asked of them over gRPC and HTTP, the bus, the telemetry, and what they cost."""

from .panels import ANY_IS_BAD, INSTANCE, bars, dashboard as make, graph, influx, instant, number, prometheus, row, states, steps


def dashboard():
    return make("meridian-services", "Meridian: Services", __doc__, [INSTANCE], [
        row("Now"),
        number("Down", "Processes of Meridian that do not answer.", "short", instant('count(up{job="meridian"} == 0) or vector(0)'), ANY_IS_BAD),
        number("Roles not ready", "A second process of a zone that stands by counts as well.", "short",
               instant('count(meridian_role_ready{instance=~"$instance"} == 0) or vector(0)'), steps((1, "yellow"))),
        number("Alerts", "Those that fire.", "short", instant('count(ALERTS{alertstate="firing"}) or vector(0)'), ANY_IS_BAD),
        number("Sessions a minute", "That auth gave out.", "short",
               instant('60 * sum(rate(meridian_auth_sessions_issued_total{instance=~"$instance"}[$__rate_interval]))')),
        number("Calls a second", "Over gRPC, all methods.", "reqps", instant('sum(rate(meridian_rpc_calls_total{instance=~"$instance"}[$__rate_interval]))')),
        number("Cores", "That all processes of Meridian take together.", "short", instant('sum(instance:process_cpu:cores_1m{job="meridian",instance=~"$instance"})')),

        row("Processes"),
        states("Roles", "Which role serves where. Of two processes with one zone, one stands by.",
               prometheus('max by (role, instance) (meridian_role_ready{instance=~"$instance"})', "{{role}} at {{instance}}"),
               {0: ("not ready", "red"), 1: ("ready", "green")}),
        graph("CPU", "Cores that each process takes.", "short", prometheus('instance:process_cpu:cores_1m{instance=~"$instance"}', "{{instance}}"), stacked=True),
        states("Targets", "Who answers Prometheus.", prometheus("max by (job, instance) (up)", "{{job}} at {{instance}}"), {0: ("down", "red"), 1: ("up", "green")}),
        graph("Clocks", "By how much each process's clock is behind the time that the cluster shares.", "s",
              prometheus('max by (instance) (meridian_world_clock_offset_seconds{instance=~"$instance"})', "{{instance}}"), lowest=None,
              thresholds=steps((0.008, "red"))),

        row("gRPC"),
        graph("Calls, by method", "A second, whatever came of them.", "reqps",
              prometheus('sum by (method) (rate(meridian_rpc_calls_total{instance=~"$instance"}[$__rate_interval]))', "{{method}}"), stacked=True),
        graph("Errors", "The share of each method's calls that failed by the server's fault.", "percentunit",
              prometheus("method:meridian_rpc_calls:error_ratio_5m", "{{method}}"), thresholds=steps((0.05, "red"))),
        graph("Codes", "A second, of calls that did not end well, also by the caller's doing.", "reqps",
              prometheus('sum by (code) (rate(meridian_rpc_calls_total{instance=~"$instance",code!~"(?i:ok)"}[$__rate_interval]))', "{{code}}")),
        bars("Length of a call", "99th percentile, by method.", "s",
             instant('histogram_quantile(0.99, sum by (method, le) (rate(meridian_rpc_call_seconds_bucket{instance=~"$instance"}[$__rate_interval])))', "{{method}}"),
             thresholds=steps((0.1, "yellow"), (0.5, "red"))),
        graph("Streams and players", "Streams that are open, by kind; who watches; players that the service knows.", "short",
              prometheus('sum by (kind) (meridian_rpc_streams{instance=~"$instance"})', "streams, {{kind}}"),
              prometheus('sum(meridian_rpc_watchers{instance=~"$instance"})', "watchers"),
              prometheus('sum(meridian_rpc_players{instance=~"$instance"})', "players")),
        graph("Positions that watchers missed", "A second: they read more slowly than the world moves.", "short",
              prometheus('sum by (instance) (rate(meridian_rpc_positions_missed_total{instance=~"$instance"}[$__rate_interval]))', "{{instance}}"),
              thresholds=steps((1, "red"))),
        graph("Orders forwarded to zones", "A second, by outcome.", "reqps",
              prometheus('sum by (outcome) (rate(meridian_rpc_forwarded_total{instance=~"$instance"}[$__rate_interval]))', "{{outcome}}"), stacked=True),

        row("HTTP: sessions"),
        graph("Sessions", "A second: given out, and those of them that resumed an earlier one.", "reqps",
              prometheus('sum by (instance) (rate(meridian_auth_sessions_issued_total{instance=~"$instance"}[$__rate_interval]))', "{{instance}} issued"),
              prometheus('sum by (instance) (rate(meridian_auth_sessions_resumed_total{instance=~"$instance"}[$__rate_interval]))', "{{instance}} resumed")),
        graph("Sessions rejected", "A second, by reason; those whose address asked too often count in both.", "reqps",
              prometheus('sum by (reason) (rate(meridian_auth_sessions_rejected_total{instance=~"$instance"}[$__rate_interval]))', "{{reason}}"),
              prometheus('sum(rate(meridian_auth_rate_limited_total{instance=~"$instance"}[$__rate_interval]))', "too often")),

        row("Bus"),
        graph("Commands", "A second, by outcome. Unknown: not answered, and may have been done; unsent: certainly not.", "short",
              prometheus('sum by (outcome) (rate(meridian_bus_commands_total{instance=~"$instance"}[$__rate_interval]))', "{{outcome}}")),
        graph("Reconnections", "In the last ten minutes, by what the connection is for.", "short",
              prometheus('sum by (instance, what) (increase(meridian_bus_reconnects_total{instance=~"$instance"}[10m]))', "{{instance}} {{what}}"),
              thresholds=ANY_IS_BAD),
        graph("Events that are kept", "Until all groups are done with them.", "short",
              prometheus('max(meridian_bus_events_length{instance=~"$instance"})', "kept")),
        graph("Generation of the store", "It rises when Valkey is another process than before: a restart, or a failover.", "short",
              prometheus('max(meridian_bus_generation{instance=~"$instance"})', "generation")),

        row("Telemetry"),
        graph("Spans", "A second: taken by the Collector, and lost before it.", "short",
              prometheus('sum by (instance) (rate(meridian_telemetry_spans_exported_total{instance=~"$instance"}[$__rate_interval]))', "{{instance}} exported"),
              prometheus('sum by (instance, reason) (rate(meridian_telemetry_spans_dropped_total{instance=~"$instance"}[$__rate_interval]))',
                         "{{instance}} dropped, {{reason}}")),
        graph("Exports", "Spans that wait, and attempts that failed in the last ten minutes.", "short",
              prometheus('max by (instance) (meridian_telemetry_queue_length{instance=~"$instance"})', "{{instance}} waiting"),
              prometheus('sum by (instance) (increase(meridian_telemetry_export_failures_total{instance=~"$instance"}[10m]))', "{{instance}} failed")),

        row("For longer (InfluxDB)"),
        graph("CPU, by process", "Cores, from InfluxDB, which keeps it for thirty days.", "short",
              influx('SELECT non_negative_derivative(max("counter"), 1s) FROM "process_cpu_seconds_total" WHERE $timeFilter '
                     'GROUP BY time($__interval), "service.instance.id" fill(none)', "[[tag_service.instance.id]]")),
        graph("Sessions", "A second, from InfluxDB.", "reqps",
              influx('SELECT non_negative_derivative(max("counter"), 1s) FROM "meridian_auth_sessions_issued_total" WHERE $timeFilter '
                     'GROUP BY time($__interval) fill(none)', "issued")),
    ])
