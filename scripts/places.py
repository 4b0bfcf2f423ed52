"""Where a build's programs are, and ports that nobody has: shared by this folder's scripts."""

import os
import pathlib
import socket

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "meridian"
BINARIES = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or CACHE / "target") / "debug"


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
