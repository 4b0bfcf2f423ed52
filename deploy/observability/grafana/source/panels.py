"""Panels, and how they come to stand on a dashboard. Nothing here knows a metric of Meridian's, but for the variables."""

import json
from urllib.parse import quote

PROMETHEUS = {"type": "prometheus", "uid": "prometheus"}
INFLUXDB = {"type": "influxdb", "uid": "influxdb"}
JAEGER = {"type": "jaeger", "uid": "jaeger"}

# Grafana's grid.
COLUMNS = 24

# A tick at 60 Hz, in seconds: where panels turn red. The line `budget` follows the world's own rate.
TICK_S = 1 / 60


def prometheus(expression, legend="", **more):
    """A query to Prometheus; `legend` names its series from their labels: {{zone}}."""
    return {"datasource": PROMETHEUS, "expr": expression, "legendFormat": legend or "__auto", **more}


def instant(expression, legend=""):
    """The value at the end of the time that is shown."""
    return prometheus(expression, legend, instant=True, range=False)


def influx(query, alias=""):
    """A query in InfluxQL; `alias` names its series from their tags: $tag_zone."""
    return {"datasource": INFLUXDB, "query": query, "rawQuery": True, "resultFormat": "time_series", "alias": alias}


def steps(*limits):
    """Green, then the colours from these values on: steps((0.0125, "yellow"), (0.0167, "red"))."""
    return {"mode": "absolute", "steps": [{"color": "green", "value": None}] + [{"color": colour, "value": value} for value, colour in limits]}


BUDGET_STEPS = steps((0.75 * TICK_S, "yellow"), (TICK_S, "red"))
ANY_IS_BAD = steps((1, "red"))


def _panel(kind, title, description, unit, queries, width, height, thresholds):
    for index, query in enumerate(queries):
        query["refId"] = chr(ord("A") + index)
    sources = {query["datasource"]["uid"] for query in queries}
    source = queries[0]["datasource"] if len(sources) == 1 else {"type": "datasource", "uid": "-- Mixed --"}
    defaults = {"unit": unit, "min": 0, "thresholds": thresholds or steps(), "color": {"mode": "palette-classic"}}
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": source,
        "targets": queries,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "gridPos": {"w": width, "h": height},
    }


def graph(title, description, unit, *queries, thresholds=None, stacked=False, width=12, height=8, lowest=0):
    """Series over time. With thresholds, the lines at which they turn are drawn. `lowest` None lets the axis go below zero."""
    panel = _panel("timeseries", title, description, unit, list(queries), width, height, thresholds)
    defaults = panel["fieldConfig"]["defaults"]
    defaults["custom"] = {
        "lineWidth": 1,
        "fillOpacity": 30 if stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none"},
        "thresholdsStyle": {"mode": "line" if thresholds else "off"},
    }
    if lowest is None:
        del defaults["min"]
    # What a series may be at most is a dashed line, above all others.
    budget = {
        "matcher": {"id": "byRegexp", "options": "/budget/"},
        "properties": [
            {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}},
            {"id": "custom.fillOpacity", "value": 0},
            {"id": "custom.stacking", "value": {"mode": "none"}},
            {"id": "color", "value": {"mode": "fixed", "fixedColor": "red"}},
        ],
    }
    panel["fieldConfig"]["overrides"] = [budget]
    panel["options"] = {
        "legend": {"displayMode": "table", "placement": "right", "calcs": ["mean", "max", "lastNotNull"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel


def number(title, description, unit, query, thresholds=None, width=4):
    """One number, as it is now."""
    panel = _panel("stat", title, description, unit, [query], width, 4, thresholds)
    panel["fieldConfig"]["defaults"]["color"] = {"mode": "thresholds"}
    panel["options"] = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "area",
        "textMode": "auto",
    }
    return panel


def bars(title, description, unit, *queries, thresholds=None, width=12, height=8):
    """A bar for each series, as it is now."""
    panel = _panel("bargauge", title, description, unit, list(queries), width, height, thresholds)
    panel["fieldConfig"]["defaults"]["color"] = {"mode": "thresholds"}
    panel["options"] = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "displayMode": "basic",
        "orientation": "horizontal",
        "showUnfilled": True,
    }
    return panel


def states(title, description, query, names, width=12, height=8):
    """A band for each series, coloured by its value; `names` is {value: (text, colour)}."""
    panel = _panel("state-timeline", title, description, "none", [query], width, height, None)
    options = {str(value): {"text": text, "color": colour, "index": index} for index, (value, (text, colour)) in enumerate(names.items())}
    panel["fieldConfig"]["defaults"]["mappings"] = [{"type": "value", "options": options}]
    panel["options"] = {"showValue": "never", "mergeValues": True, "rowHeight": 0.8, "legend": {"displayMode": "list", "placement": "bottom"}}
    return panel


def heatmap(title, description, unit, query, width=12, height=8):
    """A histogram's buckets over time, the fuller the brighter."""
    query["format"] = "heatmap"
    panel = _panel("heatmap", title, description, unit, [query], width, height, None)
    panel["options"] = {
        "calculate": False,
        "yAxis": {"unit": unit, "axisPlacement": "left"},
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
        "cellGap": 1,
        "tooltip": {"mode": "single", "yHistogram": True},
    }
    return panel


def row(title):
    """A heading; panels follow it until the next."""
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": COLUMNS, "h": 1}}


def _place(panels):
    """Gives each panel its place, from left to right, and an id."""
    x = y = line_height = 0
    for number_of_panel, panel in enumerate(panels, start=1):
        place = panel["gridPos"]
        if x + place["w"] > COLUMNS:
            x, y, line_height = 0, y + line_height, 0
        place["x"], place["y"] = x, y
        x, line_height = x + place["w"], max(line_height, place["h"])
        panel["id"] = number_of_panel
    return panels


def _variable(name, label, metric):
    query = f"label_values({metric}, {name})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": PROMETHEUS,
        "query": {"query": query, "refId": name},
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
        "sort": 1,
    }


ZONE = _variable("zone", "Zone", "meridian_zone_ticks_total")
INSTANCE = _variable("instance", "Process", "meridian_role_ready")


def explore(source, **query):
    """Where Grafana's own Explore asks a source: no other port or host is named, for those are where compose was told to publish them."""
    pane = {"datasource": source["uid"], "queries": [{"refId": "A", "datasource": source, **query}], "range": {"from": "now-15m", "to": "now"}}
    return f"/explore?schemaVersion=1&orgId=1&panes={quote(json.dumps({'traces': pane}))}"


def dashboard(uid, title, description, variables, panels):
    """A whole dashboard, linked to the others and to Jaeger."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["meridian"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "5s",
        "time": {"from": "now-15m", "to": "now"},
        "timezone": "browser",
        "links": [
            {"type": "dashboards", "title": "Meridian", "tags": ["meridian"], "asDropdown": False, "includeVars": True, "keepTime": True},
            {"type": "link", "title": "Traces (Jaeger)", "url": explore(JAEGER, queryType="search"), "icon": "external link", "targetBlank": True},
        ],
        "annotations": {
            "list": [
                {
                    "name": "Alerts",
                    "datasource": PROMETHEUS,
                    "enable": True,
                    "iconColor": "red",
                    "expr": 'ALERTS{alertstate="firing"}',
                    "titleFormat": "{{alertname}}",
                    "textFormat": "{{zone}} {{instance}}",
                    "step": "15s",
                }
            ]
        },
        "templating": {"list": variables},
        "panels": _place(panels),
    }
