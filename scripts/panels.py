"""Draws the panels of a dashboard from what a Prometheus has, each where it stands in Grafana: pictures where Grafana does not run.

It draws what panels ask Prometheus for: series, single numbers, bars and histograms over time. Of what asks another source nothing is drawn.
"""

import json
import math
import pathlib
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from drawing import COLOURS, Drawing
from places import ROOT, free_port

SCRAPE_S = 2
READY_S_MAX = 20
# Points of a series in a picture.
POINTS = 48
# Of Grafana's grid, in pixels.
COLUMN, LINE = 52, 34
GRID_COLUMNS = 24
HEAD = 44
LEGENDS_MAX = 9
# What programs push, and nobody scrapes.
PUSHED = re.compile(r"meridian_(client|audit)_")
LEGEND_LETTERS = 27
# What Grafana puts in place of its own variables; ours stand for everything.
VARIABLES = {"__rate_interval": f"{4 * SCRAPE_S}s", "__interval": f"{SCRAPE_S}s"}


class Prometheus:
    """A Prometheus with the repository's rules that scrapes some admin listeners, ended with the block."""

    def __init__(self, folder, admins):
        self.url = f"http://127.0.0.1:{free_port()}"
        self.folder, self.admins = pathlib.Path(folder), admins

    def __enter__(self):
        if not shutil.which("prometheus"):
            sys.exit("prometheus is missing; run: ./just setup")
        configuration = {
            "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
            "rule_files": [str(ROOT / "deploy/observability/prometheus/rules/recording.yml")],
            # JSON is YAML as well.
            "scrape_configs": [{"job_name": "meridian", "static_configs": [{"targets": [url.removeprefix("http://") for url in self.admins]}]}],
        }
        file = self.folder / "prometheus.yml"
        file.write_text(json.dumps(configuration), encoding="utf-8")
        address = self.url.removeprefix("http://")
        command = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={self.folder / 'tsdb'}", f"--web.listen-address={address}"]
        self.log = open(self.folder / "prometheus.log", "w+", encoding="utf-8")
        self.process = subprocess.Popen(command, stderr=self.log)
        gives_up_at = time.monotonic() + READY_S_MAX
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > gives_up_at:
                self.process.kill()
                self.log.seek(0)
                sys.exit(f"Prometheus did not start\n{self.log.read()}")
            time.sleep(0.1)
        self.began = time.time()
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.log.close()

    def is_ready(self):
        try:
            return urllib.request.urlopen(f"{self.url}/-/ready").status == 200
        except (urllib.error.URLError, OSError):
            return False

    def ask(self, expression):
        """Series of an expression over the time since the start: [(labels, [(seconds, value)])]."""
        end = time.time()
        step = max((end - self.began) / POINTS, SCRAPE_S)
        question = urllib.parse.urlencode({"query": expression, "start": self.began, "end": end, "step": step})
        with urllib.request.urlopen(f"{self.url}/api/v1/query_range?{question}") as answer:
            found = json.load(answer)["data"]["result"]
        return [(series["metric"], [(at, float(value)) for at, value in series["values"]]) for series in found]

    def panels(self, dashboard):
        """The panels of a dashboard's file that ask for nothing but what is scraped, each with what it is answered: [(panel, [(name, points)])]."""
        kept = []
        for panel in json.loads(dashboard.read_text(encoding="utf-8"))["panels"]:
            targets = panel.get("targets", [])
            if all(target["datasource"]["uid"] == "prometheus" and not PUSHED.search(target["expr"]) for target in targets):
                answers = [(named(target, labels), points) for target in targets for labels, points in self.ask(filled_in(target["expr"]))]
                kept.append((panel, answers))
        # A heading with nothing below it.
        return [entry for entry, after in zip(kept, [*kept[1:], None]) if not (is_row(entry) and (after is None or is_row(after)))]


def is_row(entry):
    return entry[0]["type"] == "row"


def filled_in(expression):
    return re.sub(r"\$(\w+)", lambda variable: VARIABLES.get(variable[1], ".*"), expression)


def named(target, labels):
    """What a series is called in a panel's legend."""
    legend = target.get("legendFormat", "__auto")
    if legend == "__auto":
        return ", ".join(f"{name}={value}" for name, value in labels.items() if name != "__name__")
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda label: labels.get(label[1], ""), legend)


def shortened(name):
    """A long name by its end, where such names differ."""
    return name if len(name) <= LEGEND_LETTERS else f"…{name[1 - LEGEND_LETTERS:]}"


def told(value, unit):
    """A value with its unit, as short as it can be read."""
    if not math.isfinite(value):
        return "-"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        return f"{value:.3g} s" if abs(value) >= 1 else f"{value * 1e3:.3g} ms"
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g} {letter}{'B/s' if unit == 'Bps' else ''}".strip()
    return f"{value:.3g}{ {'Bps': ' B/s', 'hertz': ' Hz', 'reqps': '/s', 'pps': '/s'}.get(unit, '') }"


def finite(points):
    return [(at, value) for at, value in points if math.isfinite(value)]


def last(points):
    known = finite(points)
    return known[-1][1] if known else math.nan


class Board:
    """Some panels of a dashboard in one picture."""

    def __init__(self, title, panels):
        self.panels = panels
        lines = self.lines()
        self.drawing = Drawing(title, width=GRID_COLUMNS * COLUMN + 16, height=HEAD + lines * LINE + 8)
        for (panel, answers), y in zip(panels, self.tops):
            self.panel(panel, answers, HEAD + y * LINE)

    def lines(self):
        """Grid lines that the panels take, and from which on each does: as in Grafana, but closed up where panels were left out."""
        self.tops, shift, bottom, previous = [], 0, 0, None
        for panel, _ in self.panels:
            top = panel["gridPos"]["y"]
            if previous is not None and top != previous:
                shift = min(shift, bottom - top)
            self.tops.append(top + shift)
            bottom = max(bottom, top + shift + panel["gridPos"]["h"])
            previous = top
        return bottom

    def panel(self, panel, answers, y):
        x, place = 8 + panel["gridPos"]["x"] * COLUMN, panel["gridPos"]
        width, height = place["w"] * COLUMN - 8, place["h"] * LINE - 8
        if panel["type"] == "row":
            return self.drawing.text(x, y + 22, panel["title"], size=14, weight="bold", colour="#555")
        self.drawing.rectangle(x, y, width, height, "#f7f8fa")
        self.drawing.text(x + 8, y + 17, panel["title"], size=12, weight="bold")
        answers = [(name, points) for name, points in answers if finite(points)]
        draw = {"timeseries": self.series, "stat": self.number, "bargauge": self.bars, "heatmap": self.heatmap}.get(panel["type"])
        if draw and answers:
            return draw(answers, panel["fieldConfig"]["defaults"].get("unit", "short"), (x + 8, y + 26, width - 16, height - 34))
        return self.drawing.text(x + width / 2, y + height / 2 + 8, "nothing in this run" if draw else "not drawn", anchor="middle", colour="#999")

    def number(self, answers, unit, box):
        x, y, width, height = box
        self.drawing.text(x + width / 2, y + height / 2 + 16, told(last(answers[0][1]), unit), size=30, anchor="middle", colour=COLOURS[2])

    def bars(self, answers, unit, box):
        x, y, width, height = box
        most = max(last(points) for _, points in answers) or 1.0
        each = min(height / len(answers), 26)
        for index, (name, points) in enumerate(answers):
            top, value = y + index * each, last(points)
            self.drawing.text(x + 150, top + each * 0.65, name, size=10, anchor="end")
            self.drawing.rectangle(x + 158, top + each * 0.2, max(value, 0) / most * (width - 240), each * 0.6, COLOURS[0])
            self.drawing.text(x + 164 + max(value, 0) / most * (width - 240), top + each * 0.65, told(value, unit), size=10)

    def axes(self, box, most, least, unit, times):
        x, y, width, height = box
        for share in (0, 0.5, 1):
            level = y + height * (1 - share)
            self.drawing.line(x + 56, level, x + width, level, "#e0e2e6")
            self.drawing.text(x + 52, level + 4, told(least + (most - least) * share, unit), size=9, anchor="end", colour="#666")
        self.drawing.text(x + width, y + height + 11, f"{times[1] - times[0]:.0f} s", size=9, anchor="end", colour="#666")

    def series(self, answers, unit, box):
        x, y, width, height = box
        legend_width = min(190, width * 0.36)
        inner = (x, y, width - legend_width, height - 14)
        values = [value for _, points in answers for _, value in finite(points)]
        most, least = max(values), min(0.0, min(values))
        most = most if most > least else least + 1
        times = (min(points[0][0] for _, points in answers), max(points[-1][0] for _, points in answers))
        span = (times[1] - times[0]) or 1
        self.axes(inner, most, least, unit, times)
        left, room = inner[0] + 56, inner[2] - 56
        for index, (name, points) in enumerate(answers):
            colour = "#d33" if "budget" in name else COLOURS[index % len(COLOURS)]
            steps = [
                (left + (at - times[0]) / span * room, inner[1] + inner[3] * (1 - (value - least) / (most - least))) for at, value in finite(points)
            ]
            self.drawing.path(steps, colour, width=1.4)
            if index < LEGENDS_MAX:
                at = y + 10 + index * 22
                self.drawing.text(x + width - legend_width + 10, at, shortened(name), size=10, colour=colour)
                mean = sum(value for _, value in finite(points)) / len(finite(points))
                largest = max(value for _, value in finite(points))
                self.drawing.text(x + width - legend_width + 10, at + 10, f"mean {told(mean, unit)}, max {told(largest, unit)}", size=8, colour="#777")
        if len(answers) > LEGENDS_MAX:
            self.drawing.text(x + width - legend_width + 10, y + 10 + LEGENDS_MAX * 22, f"and {len(answers) - LEGENDS_MAX} more", size=9, colour="#777")

    def heatmap(self, answers, unit, box):
        """Of cumulative buckets by their upper edges."""
        x, y, width, height = box
        edges = sorted(((float(name.replace("+Inf", "inf")), dict(points)) for name, points in answers), key=lambda edge: edge[0])
        times = sorted({at for _, points in edges for at in points})
        counts = []
        for (_, below), (edge, points) in zip([(0.0, {}), *edges], edges):
            counts.append((edge, [max(points.get(at, 0.0) - below.get(at, 0.0), 0.0) for at in times]))
        counts = [(edge, row) for edge, row in counts if any(row)]
        fullest = max((value for _, row in counts for value in row), default=1.0)
        each, wide = (height - 14) / max(len(counts), 1), (width - 56) / max(len(times), 1)
        for index, (edge, row) in enumerate(counts):
            top = y + (height - 14) - (index + 1) * each
            self.drawing.text(x + 52, top + each * 0.7, told(edge, unit) if math.isfinite(edge) else "more", size=9, anchor="end", colour="#666")
            for number, value in enumerate(row):
                if value > 0:
                    pale = int(235 - 190 * (value / fullest) ** 0.5)
                    self.drawing.rectangle(x + 56 + number * wide, top + 1, wide - 0.5, each - 1.5, f"#f0{pale:02x}{max(pale - 60, 20):02x}")


def draw(title, panels, path):
    """One picture of some panels and what they were answered."""
    Board(title, panels).drawing.write(path)
