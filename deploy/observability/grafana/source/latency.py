"""Latency: how long from an action until its own player, and others, see it, and in which term of the way the time goes."""

from .panels import ANY_IS_BAD, INSTANCE, TICK_S, bars, dashboard as make, graph, influx, instant, number, prometheus, row, steps

# One, two and three ticks at 60 Hz.
ACTION_STEPS = steps((2 * TICK_S, "yellow"), (3 * TICK_S, "red"))


def dashboard():
    return make("meridian-latency", "Meridian: Latency", __doc__, [INSTANCE], [
        row("As clients measure it"),
        number("Action p50", "From the tick in which a player acts until its own client sees the zone's echo: half of all actions of the last five minutes.", "s",
               instant("client:meridian_client_action_seconds:p50_5m"), ACTION_STEPS),
        number("Action p99", "The same of one action in a hundred.", "s", instant("client:meridian_client_action_seconds:p99_5m"), ACTION_STEPS),
        number("Observer p99", "Until another client sees it.", "s",
               instant("histogram_quantile(0.99, sum by (le) (rate(meridian_client_observer_seconds_bucket[$__rate_interval])))"), ACTION_STEPS),
        number("Inputs not there", "The share that was missing at its tick, of players in the world for more than a second.", "percentunit",
               instant('max(instance:meridian_inputs_missing:ratio_1m{instance=~"$instance"})'), steps((0.001, "yellow"), (0.01, "red"))),
        number("Duplicated", "Entities that the audit found in two zones in one tick.", "short", instant("max(meridian_audit_duplicated_total)"), ANY_IS_BAD),
        number("Lost", "Entities that the audit found in no zone for two seconds.", "short", instant("max(meridian_audit_lost_total)"), ANY_IS_BAD),
        graph("Action latency", "From the tick in which a player acts until its own client sees the zone's echo. A tick at 60 Hz is 16.7 ms.", "s",
              *[prometheus(f"histogram_quantile({quantile}, sum by (le) (rate(meridian_client_action_seconds_bucket[$__rate_interval])))", name)
                for quantile, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))], thresholds=ACTION_STEPS),
        graph("Observer latency", "From the tick in which a player acts until another client sees it.", "s",
              prometheus("histogram_quantile(0.5, sum by (le) (rate(meridian_client_observer_seconds_bucket[$__rate_interval])))", "p50"),
              prometheus("histogram_quantile(0.99, sum by (le) (rate(meridian_client_observer_seconds_bucket[$__rate_interval])))", "p99"),
              thresholds=ACTION_STEPS),
        graph("Terms of the action latency, mean",
              "The way of an action: uplink (client to gateway), forward (gateway to zone), tick_wait (until its tick begins), simulate, gateway (zone's "
              "snapshot to packet), downlink, apply (until the client shows it). The bands add up to the mean.", "s",
              prometheus("sum by (term) (rate(meridian_client_term_seconds_sum[$__rate_interval])) "
                         "/ sum by (term) (rate(meridian_client_term_seconds_count[$__rate_interval]))", "{{term}}"), stacked=True),
        bars("Terms, 99th percentile", "The term that is longest here is where slow actions lose their time. A trace of one (Jaeger) shows it step by step.", "s",
             instant("histogram_quantile(0.99, sum by (term, le) (rate(meridian_client_term_seconds_bucket[$__rate_interval])))", "{{term}}"),
             thresholds=steps((TICK_S / 2, "yellow"), (TICK_S, "red"))),

        row("Inputs, as zones see them"),
        graph("How early inputs come", "Before their use: the least is what a client steers, just above zero. 1st percentile, median and 99th.", "s",
              *[prometheus(f'histogram_quantile({quantile}, sum by (le) (rate(meridian_input_slack_seconds_bucket{{instance=~"$instance"}}[$__rate_interval])))', name)
                for quantile, name in ((0.01, "p1"), (0.5, "p50"), (0.99, "p99"))], lowest=None),
        graph("Inputs by outcome", "A second. Missing: the walk was repeated; late: it came after its tick; early: beyond what is kept.", "short",
              prometheus('sum by (outcome) (rate(meridian_inputs_total{instance=~"$instance",phase="steady"}[$__rate_interval]))', "{{outcome}}"), stacked=True),
        graph("Inputs that were not there", "The share at each process, of players in the world for more than a second.", "percentunit",
              prometheus('instance:meridian_inputs_missing:ratio_1m{instance=~"$instance"}', "{{instance}}"), thresholds=steps((0.01, "red"))),
        graph("Inputs refused by gateways", "A second, by reason: what was beyond a client's budget, of no plausible tick, or unreadable.", "short",
              prometheus('sum by (reason) (rate(meridian_gateway_inputs_refused_total{instance=~"$instance"}[$__rate_interval]))', "{{reason}}")),

        row("For longer (InfluxDB)"),
        graph("Mean action latency", "From InfluxDB, which keeps it for thirty days.", "s",
              influx('SELECT non_negative_derivative(sum("sum"), 1s) / non_negative_derivative(sum("count"), 1s) FROM (SELECT max("sum") AS "sum", max("count") '
                     'AS "count" FROM "meridian_client_action_seconds" WHERE $timeFilter GROUP BY time($__interval), * fill(none)) '
                     'WHERE $timeFilter GROUP BY time($__interval) fill(none)', "mean"), thresholds=ACTION_STEPS),
        graph("Inputs applied", "A second, by process, from InfluxDB.", "short",
              influx('SELECT non_negative_derivative(max("counter"), 1s) FROM "meridian_inputs_total" WHERE $timeFilter AND "outcome" = \'applied\' '
                     'AND "phase" = \'steady\' GROUP BY time($__interval), "service.instance.id" fill(none)', "[[tag_service.instance.id]]")),
    ])
