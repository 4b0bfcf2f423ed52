"""The bars of telemetry and of the gRPC API, for scripts/bars: what telling costs, whether traces are complete, how fast a move and its position are."""

import json
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from places import BINARIES, ROOT, free_port

# A move is asked for so often, one after the other.
MOVES = 60


class Collector:
    """`loadgen traces`, and the environment that leads to it."""

    def __init__(self, folder):
        self.report, port = pathlib.Path(folder) / "traces.json", free_port()
        command = [BINARIES / "loadgen", "traces", "--listen", f"127.0.0.1:{port}", "--report", self.report]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.environment = exporting_to(port)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)
        return json.loads(self.report.read_text(encoding="utf-8"))


class HungCollector:
    """Takes connections, and never says a word."""

    def __init__(self, *_):
        self.listener = socket.create_server(("127.0.0.1", 0))
        # A queue that a run fills.
        self.environment = {**exporting_to(self.listener.getsockname()[1]), "OTEL_BSP_MAX_QUEUE_SIZE": "1024"}

    def end(self):
        self.listener.close()


class NoCollector:
    """Nobody is there."""

    def __init__(self, *_):
        self.environment = exporting_to(free_port())

    def end(self):
        pass


def exporting_to(port):
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}


def sum_of(admin, metric):
    page = urllib.request.urlopen(f"{admin}/metrics").read().decode()
    samples = [line.rsplit(" ", 1)[1] for line in page.splitlines() if re.match(rf"{metric}[ {{]", line)]
    return sum(map(float, samples))


def one_run(bars, seconds, kind):
    """CPU microseconds of the server per zone tick, action p50 in ticks, spans that it dropped, and what the collector says."""
    with tempfile.TemporaryDirectory() as folder:
        collector = kind(folder) if kind else None
        before = dict(os.environ)
        os.environ.update(collector.environment if collector else {})
        try:
            with bars.Server(folder) as server:
                http, admin = (f"http://{server.addresses[name]}" for name in ("http", "admin"))
                cpu, ticks = server.cpu_seconds(), sum_of(admin, "meridian_zone_ticks_total")
                where = ["--server", http, "--admin", admin, "--scenario", "border"]
                report = bars.loadgen(folder, "run", *where, "--bots", 40, "--seconds", seconds)
                us_per_tick = (server.cpu_seconds() - cpu) * 1e6 / (sum_of(admin, "meridian_zone_ticks_total") - ticks)
                dropped = sum_of(admin, "meridian_telemetry_spans_dropped_total")
        finally:
            os.environ.clear()
            os.environ.update(before)
            said = collector.end() if collector else None
        return us_per_tick, report["action_latency_ticks"]["p50"], dropped, said


def pairs_of(bars, pairs, seconds, kind, name):
    """Ratios of medians, CPU and action latency, of runs with a collector of this kind to runs without telemetry; and the runs with it."""
    figures = {True: [], False: []}
    for pair in range(pairs):
        for is_telling in (pair % 2 == 0, pair % 2 == 1):
            run = one_run(bars, seconds, kind if is_telling else None)
            figures[is_telling].append(run)
            what = name if is_telling else "off"
            print(f"  telemetry {what}: {run[0]:.0f} us of CPU per tick, action p50 {run[1]:.2f}", file=sys.stderr)
    ratios = [
        statistics.median(run[index] for run in figures[True]) / statistics.median(run[index] for run in figures[False])
        for index in (0, 1)
    ]
    return ratios, figures[True]


def telling(bars, pairs, seconds):
    """What telling costs, and how complete the traces were."""
    (cpu, action), runs = pairs_of(bars, pairs, seconds, Collector, "on")
    judged = [run[3] for run in runs]
    probes = sum(report["probes"] for report in judged)
    complete = sum(report["complete"] for report in judged)
    orphans = sum(sum(report["orphans"].values()) for report in judged)
    return [
        ("telemetry on / off: CPU per zone tick", cpu, 1.05, False),
        ("telemetry on / off: action p50", action, 1.02, False),
        ("probes with complete traces, %", 100 * complete / max(1, probes), 99.0, True),
        ("orphan spans", orphans, 0, False),
    ]


def troubled(bars, pairs, seconds):
    """The same with a collector that is of no use."""
    rows = []
    for name, kind in (("away", NoCollector), ("hung", HungCollector)):
        (cpu, _), runs = pairs_of(bars, pairs, seconds, kind, name)
        rows.append((f"collector {name} / telemetry off: CPU per zone tick", cpu, 1.05, False))
        rows.append((f"collector {name}: spans dropped and counted, least of a run", min(run[2] for run in runs), 1, True))
    return rows


class Player:
    """A player on the command line, at one server."""

    def __init__(self, binaries, folder, name, server, auth):
        session = pathlib.Path(folder) / f"{name}.session"
        self.command = [binaries / "cli", "--json", "--server", server, "--auth", auth, "--name", name, "--session", session]

    def does(self, *arguments):
        """The last line that the command answers."""
        result = subprocess.run([*self.command, *arguments], stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(result.stdout.strip().splitlines()[-1])

    def starts(self, *arguments):
        return subprocess.Popen([*self.command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class Sight:
    """When a watcher saw an entity somewhere else than before."""

    def __init__(self, watch):
        self.moved, self.at, self.watch = threading.Condition(), None, watch
        self.changes = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.watch.stdout:
            now, told = time.monotonic(), json.loads(line)
            at = (told.get("x"), told.get("z"))
            with self.moved:
                if self.at is not None and at != self.at:
                    self.changes.append(now)
                self.at = at
                self.moved.notify_all()

    def first_after(self, began, patience_s=2):
        with self.moved:
            is_seen = lambda: any(at >= began for at in self.changes)
            if not self.moved.wait_for(is_seen, patience_s):
                return None
            return next(at for at in self.changes if at >= began)

    def rest(self, quiet_s=0.3):
        """Waits until nothing has moved for so long."""
        with self.moved:
            while self.moved.wait_for(lambda seen=len(self.changes): len(self.changes) > seen, quiet_s):
                pass


def moves_and_positions(folder):
    """Runs in a cluster: ms of unary moves, and ms from a move's line at one server's client to its position at another's."""
    servers, auth = os.environ["CLUSTER_RPC"].split(), os.environ["CLUSTER_URL"]
    ada = Player(BINARIES, folder, "Ada", servers[0], auth)
    eve = Player(BINARIES, folder, "Eve", servers[-1], auth)
    entity = ada.does("join")["entity"]
    eve.does("join")
    latencies = [ada.does("move", "--dx", "1" if index % 2 else "-1", "--ticks", "2")["latency_ms"] for index in range(MOVES)]
    watch, play, positions = eve.starts("watch", "--entity", entity), ada.starts("play"), []
    sight = Sight(watch)
    for index in range(MOVES):
        sight.rest()
        began = time.monotonic()
        play.stdin.write(f"--dx {1 if index % 2 else -1} --ticks 3\n")
        play.stdin.flush()
        seen = sight.first_after(began)
        positions += [(seen - began) * 1e3] if seen else []
    for process in (play, watch):
        process.terminate()
    return latencies, positions


def calls():
    """Medians of moves and of positions in another server's client, in a cluster without bots."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "calls.json"
        command = [ROOT / "scripts/cluster", "--free-ports", "--quiet", "--", sys.executable, __file__, str(out), folder]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        latencies, positions = json.loads(out.read_text(encoding="utf-8"))
    tick_ms = 1000 / 60
    if len(positions) < MOVES // 2:
        sys.exit(f"bars: only {len(positions)} of {MOVES} moves were seen by the other server's watcher")
    return [
        ("gRPC Move, unary, p50, ms", statistics.median(latencies), tick_ms + 1, False),
        ("position in the other server's client, p50, ticks", statistics.median(positions) / tick_ms, 2.0, False),
    ]


def measure(bars, pairs, seconds):
    return [*calls(), *telling(bars, pairs, seconds), *troubled(bars, pairs // 2, seconds)]


if __name__ == "__main__":
    pathlib.Path(sys.argv[1]).write_text(json.dumps(moves_and_positions(sys.argv[2])), encoding="utf-8")
