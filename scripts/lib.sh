# Sourced by the scripts (POSIX sh): where the tools and the build live, and how a tool is installed.

cache_dir="${XDG_CACHE_HOME:-$HOME/.cache}/meridian"
tools_dir="$cache_dir/tools"
PATH="$tools_dir/bin:$PATH"
CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache_dir/target}"
export PATH CARGO_TARGET_DIR

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
die() { say "$@"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# install_python_package REQUIREMENT: its programs appear in $tools_dir/bin.
install_python_package() {
  has python3 || return 1
  # A virtual environment where it can be had; else a plain folder, which holds programs just as well.
  if [ -x "$tools_dir/bin/pip" ] || python3 -m venv "$tools_dir" >/dev/null 2>&1; then
    "$tools_dir/bin/python3" -m pip install --quiet --disable-pip-version-check "$1"
  else
    python3 -m pip install --quiet --disable-pip-version-check --upgrade --target "$tools_dir" "$1"
  fi
}

# install_tool PROGRAM PYTHON_PACKAGE CARGO_PACKAGE: nothing if the program is there; else prebuilt, else from source.
install_tool() {
  has "$1" && return 0
  say "installing $1"
  requirement=$(grep "^$2==" "$root/scripts/tools.txt" || echo "$2")
  if install_python_package "$requirement" && has "$1"; then return 0; fi
  has cargo || die "neither a prebuilt $1 nor cargo to build it with; install Rust from https://rustup.rs first"
  say "no prebuilt $1; building it, which takes minutes"
  CARGO_TARGET_DIR="$cache_dir/tools-target" cargo install --locked --root "$tools_dir" "$3"
}
