"""Ticks: does every zone, and every gateway, keep up with the world's clock?"""

from .panels import (ANY_IS_BAD, BUDGET_STEPS, INSTANCE, TICK_S, ZONE, bars, dashboard as make, graph, heatmap, influx, instant, number,
                     prometheus, row, steps)


def dashboard():
    return make("meridian-ticks", "Meridian: Ticks", __doc__, [ZONE, INSTANCE], [
        row("Now"),
        number("Slowest zone", "The longest p99 of a tick of any zone, as a share of a tick: from 100 % on, inputs come late.", "percentunit",
               instant('max(zone:meridian_zone_tick_seconds:p99_1m{zone=~"$zone"} / zone:meridian_zone_tick_budget:seconds{zone=~"$zone"})'),
               steps((0.75, "yellow"), (1, "red"))),
        number("Ticks a second", "Of the zone that simulates the fewest. At the world's rate if all is well.", "hertz",
               instant('min(sum by (zone) (rate(meridian_zone_ticks_total{zone=~"$zone"}[$__rate_interval])))')),
        number("Overruns", "Ticks that ended after the next one was due, in the last five minutes.", "short",
               instant('sum(increase(meridian_zone_tick_overruns_total{zone=~"$zone"}[5m]))'), ANY_IS_BAD),
        number("Skipped", "Ticks that were never simulated, because a zone was too far behind, in the last five minutes.", "short",
               instant('sum(increase(meridian_zone_ticks_skipped_total{zone=~"$zone"}[5m]))'), ANY_IS_BAD),
        number("Entities", "All that the zones simulate.", "short", instant('sum(meridian_zone_entities{zone=~"$zone"})')),
        number("Players", "Those of the entities that somebody plays.", "short", instant('sum(meridian_zone_players{zone=~"$zone"})')),

        row("Zones"),
        graph("Length of a tick, by zone",
              "Median and 99th percentile; the dashed line is what a tick may take, by the world's rate. The thresholds are those of 60 Hz.", "s",
              prometheus('zone:meridian_zone_tick_seconds:p50_1m{zone=~"$zone"}', "{{zone}} p50"),
              prometheus('zone:meridian_zone_tick_seconds:p99_1m{zone=~"$zone"}', "{{zone}} p99"),
              prometheus('max(zone:meridian_zone_tick_budget:seconds{zone=~"$zone"})', "budget"), thresholds=BUDGET_STEPS),
        graph("Longest tick, by zone",
              "The upper bound of the bucket that holds the slowest tick: it took no longer than that, and longer than the bound below.", "s",
              prometheus('histogram_quantile(1, sum by (zone, le) (rate(meridian_zone_tick_seconds_bucket{zone=~"$zone"}[$__rate_interval])))', "{{zone}}"),
              thresholds=BUDGET_STEPS),
        graph("Phases of a tick, mean", "Where the time of a tick goes: all zones together, so that the bands add up to the mean tick.", "s",
              prometheus('sum by (phase) (rate(meridian_zone_phase_seconds_sum{zone=~"$zone"}[$__rate_interval])) '
                         '/ scalar(sum(rate(meridian_zone_ticks_total{zone=~"$zone"}[$__rate_interval])))', "{{phase}}"), stacked=True),
        bars("Phases of a tick, 99th percentile", "The slowest phase of the slowest ticks, by zone.", "s",
             instant('histogram_quantile(0.99, sum by (zone, phase, le) (rate(meridian_zone_phase_seconds_bucket{zone=~"$zone"}[$__rate_interval])))',
                     "{{zone}} {{phase}}"), thresholds=steps((0.5 * TICK_S, "yellow"), (TICK_S, "red"))),
        heatmap("All ticks", "How many ticks took how long.", "s",
                prometheus('sum by (le) (increase(meridian_zone_tick_seconds_bucket{zone=~"$zone"}[$__rate_interval]))', "{{le}}")),
        graph("Overruns and skipped ticks", "A second. An overrun is caught up; of a skipped tick the inputs are lost.", "short",
              prometheus('sum by (zone) (rate(meridian_zone_tick_overruns_total{zone=~"$zone"}[$__rate_interval]))', "{{zone}} overruns"),
              prometheus('sum by (zone) (rate(meridian_zone_ticks_skipped_total{zone=~"$zone"}[$__rate_interval]))', "{{zone}} skipped")),
        graph("Entities, by zone", "What a zone simulates, and the copies of its neighbours' that it shows (ghosts).", "short",
              prometheus('sum by (zone) (meridian_zone_entities{zone=~"$zone"})', "{{zone}}"),
              prometheus('sum by (zone) (meridian_zone_ghosts{zone=~"$zone"})', "{{zone}} ghosts")),
        graph("Players, by zone", "And those whom no gateway plays: they wait for 30 s to be played again.", "short",
              prometheus('sum by (zone) (meridian_zone_players{zone=~"$zone"})', "{{zone}}"),
              prometheus('sum by (zone) (meridian_zone_players_unplayed{zone=~"$zone"})', "{{zone}} unplayed")),
        graph("Restarts after a panic", "In the last ten minutes, by zone.", "short",
              prometheus('sum by (zone) (increase(meridian_zone_restarts_total{zone=~"$zone"}[10m]))', "{{zone}}"), thresholds=ANY_IS_BAD),

        row("Gateways"),
        graph("Length of a gateway's tick", "From the first snapshot that is applied to the last packet that is sent.", "s",
              prometheus('histogram_quantile(0.5, sum by (instance, le) (rate(meridian_gateway_tick_seconds_bucket{instance=~"$instance"}[$__rate_interval])))',
                         "{{instance}} p50"),
              prometheus('histogram_quantile(0.99, sum by (instance, le) (rate(meridian_gateway_tick_seconds_bucket{instance=~"$instance"}[$__rate_interval])))',
                         "{{instance}} p99"), thresholds=BUDGET_STEPS),
        graph("Passes between ticks", "How long a gateway takes to read what has come, 99th percentile.", "s",
              prometheus('histogram_quantile(0.99, sum by (instance, le) (rate(meridian_gateway_receive_seconds_bucket{instance=~"$instance"}[$__rate_interval])))',
                         "{{instance}}")),
        graph("Ticks without all zones", "The share that a gateway replicated without the snapshot of some zone: it waits for half a tick.", "percentunit",
              prometheus('sum by (instance) (rate(meridian_gateway_ticks_incomplete_total{instance=~"$instance"}[$__rate_interval])) '
                         '/ sum by (instance) (rate(meridian_gateway_ticks_total{instance=~"$instance"}[$__rate_interval]))', "{{instance}}"),
              thresholds=steps((0.05, "red"))),

        row("For longer (InfluxDB)"),
        graph("Mean tick, by zone", "From InfluxDB, which keeps it for thirty days.", "s",
              influx('SELECT non_negative_derivative(max("sum"), 1s) / non_negative_derivative(max("count"), 1s) FROM "meridian_zone_tick_seconds" '
                     'WHERE $timeFilter AND "zone" =~ /^$zone$/ GROUP BY time($__interval), "zone" fill(none)', "$tag_zone"), thresholds=BUDGET_STEPS),
        graph("Entities, by zone", "From InfluxDB: the most in each interval.", "short",
              influx('SELECT max("gauge") FROM "meridian_zone_entities" WHERE $timeFilter AND "zone" =~ /^$zone$/ '
                     'GROUP BY time($__interval), "zone" fill(none)', "$tag_zone")),
    ])
