"""Handoff: entities that change hands between zones, how long it takes, and whether each of them is in exactly one zone."""

from .panels import ANY_IS_BAD, INSTANCE, TICK_S, ZONE, dashboard as make, graph, heatmap, influx, instant, number, prometheus, row, steps

HANDOFF_STEPS = steps((2 * TICK_S, "yellow"), (0.25, "red"))


def dashboard():
    return make("meridian-handoff", "Meridian: Handoff", __doc__, [ZONE, INSTANCE], [
        row("Now"),
        number("Handoffs a minute", "Entities that became another zone's.", "short",
               instant('60 * sum(rate(meridian_handoffs_total{zone=~"$zone",direction="arrived"}[$__rate_interval]))')),
        number("Handoff p50", "From the last tick that the sender simulated an entity in until it is the receiver's: the worst zone.", "s",
               instant('max(zone:meridian_handoff_seconds:p50_5m{zone=~"$zone"})'), HANDOFF_STEPS),
        number("Handoff p99", "The same of one handoff in a hundred.", "s", instant('max(zone:meridian_handoff_seconds:p99_5m{zone=~"$zone"})'), HANDOFF_STEPS),
        number("Came back", "The share that the neighbour did not take, in the last five minutes: it has no living instance, or a full inbox.", "percentunit",
               instant('sum(increase(meridian_handoffs_total{zone=~"$zone",direction="resumed"}[5m])) '
                       '/ sum(increase(meridian_handoffs_total{zone=~"$zone",direction=~"resumed|departed"}[5m]))'), steps((0.01, "yellow"), (0.1, "red"))),
        number("Duplicated", "Entities that the audit found in two zones in one tick.", "short", instant("max(meridian_audit_duplicated_total)"), ANY_IS_BAD),
        number("Lost", "Entities that the audit found in no zone for two seconds.", "short", instant("max(meridian_audit_lost_total)"), ANY_IS_BAD),

        row("Between zones"),
        graph("Length of a handoff", "Into each zone: median and 99th percentile of five minutes. Under a tick (16.7 ms at 60 Hz) nobody sees a seam.", "s",
              prometheus('zone:meridian_handoff_seconds:p50_5m{zone=~"$zone"}', "{{zone}} p50"),
              prometheus('zone:meridian_handoff_seconds:p99_5m{zone=~"$zone"}', "{{zone}} p99"), thresholds=HANDOFF_STEPS),
        heatmap("All handoffs", "How many took how long.", "s",
                prometheus('sum by (le) (increase(meridian_handoff_seconds_bucket{zone=~"$zone"}[$__rate_interval]))', "{{le}}")),
        graph("Handoffs, by zone", "A second: departed is told to have left, arrived to be there.", "short",
              prometheus('sum by (zone, direction) (rate(meridian_handoffs_total{zone=~"$zone",direction=~"arrived|departed"}[$__rate_interval]))',
                         "{{zone}} {{direction}}")),
        graph("Came back, by zone", "A second: what a neighbour did not take goes on where it was.", "short",
              prometheus('sum by (zone) (rate(meridian_handoffs_total{zone=~"$zone",direction="resumed"}[$__rate_interval]))', "{{zone}}"),
              thresholds=steps((1, "red"))),
        graph("Ghosts, by zone", "Copies of neighbours' entities near the borders.", "short",
              prometheus('sum by (zone) (meridian_zone_ghosts{zone=~"$zone"})', "{{zone}}")),
        graph("Owners that gateways saw change", "A second. The same handoffs, from the players' side.", "short",
              prometheus('sum by (instance) (rate(meridian_gateway_switches_total{instance=~"$instance"}[$__rate_interval]))', "{{instance}}")),

        row("Over the bus"),
        graph("Length of a command", "From its handing in to Valkey's answer, 99th percentile by kind.", "s",
              prometheus('histogram_quantile(0.99, sum by (kind, le) (rate(meridian_bus_command_seconds_bucket{instance=~"$instance"}[$__rate_interval])))',
                         "{{kind}}"), thresholds=steps((0.25, "red"))),
        graph("Inboxes", "Transfers that wait, by the zone's number. One that stays is in no zone.", "short",
              prometheus("max by (zone) (meridian_bus_inbox_length)", "zone {{zone}}"), thresholds=steps((64, "red"))),
        graph("What could not be read", "In the last ten minutes: transfers wait, records stay, entries are put aside.", "short",
              prometheus('sum by (reason) (increase(meridian_bus_unreadable_transfers_total{instance=~"$instance"}[10m]))', "transfers, {{reason}}"),
              prometheus('sum by (reason) (increase(meridian_bus_unreadable_records_total{instance=~"$instance"}[10m]))', "records, {{reason}}"),
              prometheus('sum by (stream, reason) (increase(meridian_bus_dead_letters_total{instance=~"$instance"}[10m]))', "{{stream}}, {{reason}}"),
              thresholds=ANY_IS_BAD),
        graph("Lost with an instance", "The tick of the oldest record of a player that an instance found when it claimed its zone; it changes when a zone changes hands.", "short",
              prometheus('max by (zone) (meridian_zone_claimed_after_tick{zone=~"$zone"})', "{{zone}}")),

        row("For longer (InfluxDB)"),
        graph("Arrivals, by zone", "A second, from InfluxDB, which keeps it for thirty days.", "short",
              influx('SELECT non_negative_derivative(max("counter"), 1s) FROM "meridian_handoffs_total" WHERE $timeFilter AND "direction" = \'arrived\' '
                     'AND "zone" =~ /^$zone$/ GROUP BY time($__interval), "zone" fill(none)', "$tag_zone")),
        graph("Mean handoff, by zone", "From InfluxDB.", "s",
              influx('SELECT non_negative_derivative(max("sum"), 1s) / non_negative_derivative(max("count"), 1s) FROM "meridian_handoff_seconds" '
                     'WHERE $timeFilter AND "zone" =~ /^$zone$/ GROUP BY time($__interval), "zone" fill(none)', "$tag_zone"), thresholds=HANDOFF_STEPS),
    ])
