"""Where a build's programs are, and ports that nobody has, what lets a program run before others: shared by this folder's scripts."""

import os
import pathlib
import shutil
import socket
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "meridian"
BINARIES = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or CACHE / "target") / "debug"


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def before_others():
    """The beginning of the command of a program for which threads that tick wait, as far as the system allows it."""
    in_realtime = ["chrt", "--reset-on-fork", "--rr", "2"]
    if shutil.which("chrt") and subprocess.run([*in_realtime, "true"], stderr=subprocess.DEVNULL).returncode == 0:
        return in_realtime
    return ["nice", "-n", "-10"] if os.geteuid() == 0 else []
