"""Where a build's programs are, and ports that nobody has, what lets a program run before others: shared by this folder's scripts."""

import itertools
import os
import pathlib
import shutil
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "meridian"
BINARIES = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or CACHE / "target") / "debug"


# Below the ports that systems give to whoever asks for any: none of these is taken by another program's connection before it is used.
PORTS_FIRST, PORTS = 20_000, 12_000
# Processes that run at the same time begin so far apart.
PORTS_PER_PROCESS = 61
PORTS_TOLD = itertools.count()


def free_port():
    """A port that nobody has, over TCP or UDP, and that this process was not told before."""
    for told in itertools.islice(PORTS_TOLD, PORTS):
        port = PORTS_FIRST + (os.getpid() * PORTS_PER_PROCESS + told) % PORTS
        if is_free(port, socket.SOCK_STREAM) and is_free(port, socket.SOCK_DGRAM):
            return port
    sys.exit(f"none of {PORTS} ports is free")


def is_free(port, kind):
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def before_others():
    """The beginning of the command of a program for which threads that tick wait, as far as the system allows it."""
    in_realtime = ["chrt", "--reset-on-fork", "--rr", "2"]
    if shutil.which("chrt") and subprocess.run([*in_realtime, "true"], stderr=subprocess.DEVNULL).returncode == 0:
        return in_realtime
    return ["nice", "-n", "-10"] if os.geteuid() == 0 else []
