"""The bars of telemetry and of the gRPC API, for scripts/bars: what telling costs, with a collector and with one that makes trouble, whether traces are
complete, how fast a move and its position are, how many streams hold."""

import contextlib
import http.server
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
import typing
import urllib.request

from places import BINARIES, ROOT, free_port

# A move is asked for so often, one after the other.
MOVES = 60
# Streams of moves at once: sixteen of each of 63 players.
STREAMS = 1_008

# Spans that wait at most where a collector makes trouble, so that a run fills the queue; by default 8,192 do.
QUEUE_LENGTH = 1_024
# Between two probes of a bot there, in seconds: as often as gateways grant traces, or nearly. Some 1,000 spans a second leave the server.
TROUBLED_PROBES_S = 0.15
# What a queue may make of the server's memory beyond what a run without telemetry does, in MB: 1,024 spans of half a kilobyte, and a batch of 512
# under way of three kilobytes each, as messages, their copy for the next attempt and bytes, are 2 MB, and as much again for what the allocator keeps.
# Without a bound it would be half an MB in each second.
GROWN_MB_MAX = 4
# How many more ticks may overrun than without telemetry, in percent of all: three of those of four zones in 15 s, by which runs of one kind differ too.
OVERRUNS_MORE_PERCENT_MAX = 0.1
# From when a swarm is started until its bots walk, in seconds.
TO_WALK_S = 4
# How late a slow collector answers, in seconds. Exporters give it ten.
ANSWERS_AFTER_S = 3
# How long spans may take to go out again when a collector is back, in seconds: longer than one batch is tried.
RECOVERY_S_MAX = 10
# Between two looks at the server's memory, in seconds.
LOOK_S = 0.25

SPANS_DROPPED = "meridian_telemetry_spans_dropped_total"
SPANS_EXPORTED = "meridian_telemetry_spans_exported_total"


class Traces:
    """`loadgen traces`, and the environment that leads to it."""

    def __init__(self, folder, port=None):
        port = port or free_port()
        self.report = pathlib.Path(folder) / f"traces-{port}.json"
        command = [BINARIES / "loadgen", "traces", "--listen", f"127.0.0.1:{port}", "--report", self.report]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.environment = exporting_to(port)
        # What it says of all that it was told, once it has ended.
        self.told = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)
        self.told = json.loads(self.report.read_text(encoding="utf-8"))


class Off:
    """A server that tells nothing: what the others are compared with. The swarm beside it tells of its actions to a collector of its own: what that costs
    the machine is no part of what a server pays."""

    name = "off"
    swarm_tells = True

    def __init__(self, folder, swarms):
        self.environment = {}

    def begin(self, admin, seconds):
        """The swarm is started, against the server with this admin listener."""

    def has_recovered(self):
        """Whether spans go out again; None where nothing came back."""
        return None

    def end(self):
        """Its collector, if it has one, ends."""


class Collector(Off):
    """A server that tells the swarm's collector, which then knows whole traces."""

    name = "on"

    def __init__(self, folder, swarms):
        self.environment = swarms.environment


class Silence(Off):
    """Nobody tells anything, neither the server nor the swarm: beside it is known what all that is told costs a server and its players where the swarm and
    the collector share the cores with them."""

    name = "silence"
    swarm_tells = False


class NoCollector(Off):
    """Nobody is there."""

    name = "away"

    def __init__(self, folder, swarms):
        self.environment = with_short_queue(exporting_to(free_port()))


class HungCollector(Off):
    """Takes connections, and never says a word."""

    name = "hung"

    def __init__(self, folder, swarms):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.environment = with_short_queue(exporting_to(self.listener.getsockname()[1]))

    def end(self):
        self.listener.close()


class LateAnswer(http.server.BaseHTTPRequestHandler):
    """Takes what it is sent, and says so late."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(ANSWERS_AFTER_S)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class LateServer(http.server.ThreadingHTTPServer):
    """A connection on a thread of its own each."""

    def handle_error(self, *_):
        """Who asked has ended, and waits for no answer."""


class SlowCollector(Off):
    """Takes everything, each export some seconds late."""

    name = "slow"

    def __init__(self, folder, swarms):
        self.server = LateServer(("127.0.0.1", 0), LateAnswer)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.environment = with_short_queue(exporting_to(self.server.server_port, "http/protobuf"))

    def end(self):
        self.server.shutdown()
        self.server.server_close()


class ReturningCollector(Off):
    """Ends a while after the swarm has begun, and comes back to the same address before the swarm ends."""

    name = "back"

    def __init__(self, folder, swarms):
        self.folder, self.port = folder, free_port()
        self.collector = Traces(folder, self.port)
        self.environment = with_short_queue(exporting_to(self.port))

    def begin(self, admin, seconds):
        self.admin = admin
        self.thread = threading.Thread(target=self.go_and_return, args=(seconds,))
        self.thread.start()

    def go_and_return(self, seconds):
        time.sleep(TO_WALK_S + 0.3 * seconds)
        self.collector.end()
        time.sleep(0.3 * seconds)
        self.exported_before = sum_of(self.admin, SPANS_EXPORTED)
        self.collector = Traces(self.folder, self.port)

    def has_recovered(self):
        self.thread.join()
        gives_up_at = time.monotonic() + RECOVERY_S_MAX
        while sum_of(self.admin, SPANS_EXPORTED) <= self.exported_before:
            if time.monotonic() > gives_up_at:
                return False
            time.sleep(LOOK_S)
        return True

    def end(self):
        self.collector.end()


TROUBLES = (NoCollector, HungCollector, SlowCollector, ReturningCollector)


def exporting_to(port, protocol="grpc"):
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}


def with_short_queue(environment):
    return {**environment, "OTEL_BSP_MAX_QUEUE_SIZE": str(QUEUE_LENGTH)}


def sum_of(admin, metric):
    page = urllib.request.urlopen(f"{admin}/metrics").read().decode()
    samples = [line.rsplit(" ", 1)[1] for line in page.splitlines() if re.match(rf"{metric}[ {{]", line)]
    return sum(map(float, samples))


def resident_mb(process):
    """Memory of a process, from /proc."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    return int(re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)[1]) * 1024 / 1e6


class Memory:
    """By how many MB a process grows in a block at most, from when its bots walk, for so many seconds: those who vanish at the end cost the gateway
    what they never acknowledge, until it has given them up."""

    def __init__(self, process, seconds):
        self.process, self.seconds, self.seen, self.is_over = process, seconds, [], threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()

    def watch(self):
        # The last second is left out, for nobody says when exactly they leave.
        pause, until = TO_WALK_S, time.monotonic() + TO_WALK_S + self.seconds - 1
        while not self.is_over.wait(pause) and time.monotonic() < until:
            self.seen.append(resident_mb(self.process))
            pause = LOOK_S

    def grown_mb(self):
        return max(self.seen) - self.seen[0] if self.seen else None


class Run(typing.NamedTuple):
    """What one run told; None for what it did not measure."""

    # CPU of the server in the time of a tick, in microseconds.
    us_per_tick: float
    # Action latency in ticks, median.
    action_p50: float
    # Zones' ticks that ended late or were skipped.
    overruns_percent: float
    grown_mb: float
    # Spans of the server.
    dropped: float
    exported: float
    has_recovered: bool
    # What the collector says.
    told: dict


def one_run(bars, seconds, kind, *flags):
    """A run of 40 bots against a server, with where its spans go."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        swarms = stack.enter_context(Traces(folder))
        collector = kind(folder, swarms)
        stack.callback(collector.end)
        with environment(collector.environment):
            server = stack.enter_context(bars.Server(folder))
        with environment(swarms.environment if kind.swarm_tells else {}):
            run = run_against(bars, server, folder, seconds, collector, flags)
        # The server first, whose last spans the collectors still take.
        stack.close()
        print(f"  telemetry {kind.name}: {run}", file=sys.stderr)
        return run._replace(told=swarms.told)


@contextlib.contextmanager
def environment(additional):
    """What is started within the block tells as these variables say, whatever others say of telling."""
    before = dict(os.environ)
    for name in [name for name in before if name.startswith("OTEL_")]:
        del os.environ[name]
    os.environ.update(additional)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def run_against(bars, server, folder, seconds, collector, flags):
    """A swarm's run, while its collector does what it does."""
    http, admin = (f"http://{server.addresses[name]}" for name in ("http", "admin"))
    where = ["--server", http, "--admin", admin, "--scenario", "border", "--bots", 40, "--seconds", seconds]
    with Memory(server.process, seconds) as memory:
        collector.begin(admin, seconds)
        report = bars.loadgen(folder, "run", *where, *flags)
    # Of the measuring window.
    of_server, ticks = report["server"], report["server"]["zone_tick_ms"]["samples"]
    return Run(
        us_per_tick=bars.times(of_server["cpu_us_per_client_tick"], report["bots"]["connected"]),
        action_p50=report["action_latency_ticks"]["p50"],
        overruns_percent=bars.times(of_server["tick_overruns"], 100 / ticks) if ticks else None,
        grown_mb=memory.grown_mb(),
        dropped=sum_of(admin, SPANS_DROPPED),
        exported=sum_of(admin, SPANS_EXPORTED),
        has_recovered=collector.has_recovered(),
        told=None,
    )


def in_turn(bars, kinds, rounds, seconds, *flags):
    """Runs of each kind, in rounds of one of each; another one begins each time."""
    runs = {kind: [] for kind in kinds}
    for number in range(rounds):
        first = number % len(kinds)
        for kind in [*kinds[first:], *kinds[:first]]:
            runs[kind].append(one_run(bars, seconds, kind, *flags))
    return runs


def median(runs, figure):
    """None if a run did not measure it."""
    figures = [getattr(run, figure) for run in runs]
    return None if None in figures else statistics.median(figures)


def beyond(runs, off, figure):
    """By how much the median is more than without telemetry."""
    told, without = median(runs, figure), median(off, figure)
    return None if None in (told, without) else told - without


def telling(bars, rounds, seconds):
    """What telling costs, and how complete the traces were."""
    runs = in_turn(bars, (Collector, Off, Silence), rounds, seconds)
    judged = [run.told for run in runs[Collector]]
    probes = sum(report["probes"] for report in judged)
    complete = sum(report["complete"] for report in judged)
    orphans = sum(sum(report["orphans"].values()) for report in judged)
    costs = []
    for whose, off in (("all", Silence), ("a server's", Off)):
        cpu, action = (
            bars.ratio(median(runs[Collector], figure), median(runs[off], figure)) for figure in ("us_per_tick", "action_p50")
        )
        costs += [
            (f"{whose} telemetry on / off: CPU per zone tick", cpu, 1.05, False),
            (f"{whose} telemetry on / off: action p50", action, 1.02, False),
        ]
    return [
        *costs,
        ("probes with complete traces, %", 100 * complete / probes if probes else None, 99.0, True),
        ("orphan spans", orphans if probes else None, 0, False),
    ]


def troubled(bars, rounds, seconds):
    """The same with collectors that are of no use, or not all the time: each in rounds with a run without telemetry."""
    runs = in_turn(bars, (Off, *TROUBLES), rounds, seconds, "--probe-every", TROUBLED_PROBES_S)
    rows = []
    for kind in TROUBLES:
        rows += rows_of(bars, f"collector {kind.name}", runs[kind], runs[Off])
    exported = min(run.exported for run in runs[SlowCollector])
    recovered = min(run.has_recovered for run in runs[ReturningCollector])
    return [
        *rows,
        ("collector slow: spans exported, least of a run", exported, 1, True),
        ("collector back: spans go out again in each run", int(recovered), 1, True),
    ]


def rows_of(bars, name, runs, off):
    """What a server does meanwhile, beside what it does without telemetry."""
    cpu, action = (bars.ratio(median(runs, figure), median(off, figure)) for figure in ("us_per_tick", "action_p50"))
    return [
        (f"{name} / telemetry off: CPU per zone tick", cpu, 1.05, False),
        (f"{name} / telemetry off: action p50", action, 1.05, False),
        (f"{name} - telemetry off: ticks overrun, %", beyond(runs, off, "overruns_percent"), OVERRUNS_MORE_PERCENT_MAX, False),
        (f"{name} - telemetry off: memory grown, MB", beyond(runs, off, "grown_mb"), GROWN_MB_MAX, False),
        (f"{name}: spans dropped and counted, least", min(run.dropped for run in runs), 1, True),
    ]


def streams(bars):
    """Streams of moves of many players, all at once."""
    with tempfile.TemporaryDirectory() as folder, bars.Server(folder) as server:
        where = [word for flag, name in (("--server", "http"), ("--rpc", "rpc")) for word in (flag, f"http://{server.addresses[name]}")]
        report = bars.loadgen(folder, "streams", *where, "--streams", STREAMS)
    return [
        (f"gRPC Play, {STREAMS:,} streams at once: those that hold", report["held"], 1_000, True),
        ("gRPC Play: moves refused or not answered", report["unanswered"], 0, False),
    ]


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
    return [*calls(), *streams(bars), *telling(bars, pairs, seconds), *troubled(bars, pairs // 2, seconds)]


if __name__ == "__main__":
    pathlib.Path(sys.argv[1]).write_text(json.dumps(moves_and_positions(sys.argv[2])), encoding="utf-8")
