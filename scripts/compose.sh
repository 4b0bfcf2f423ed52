# Sourced by scripts/up and scripts/down, after lib.sh (POSIX sh): compose with the file of deploy/compose, whichever way this machine has it.

has docker || die "docker is missing; install Docker Engine with its compose plugin (https://docs.docker.com/engine/install), or run ./just cluster, which needs no containers"
docker info >/dev/null 2>&1 || die "the Docker daemon does not answer; is it running, and may you use it? ./just cluster needs no containers"
if docker compose version >/dev/null 2>&1; then
  compose() { docker compose -f "$root/deploy/compose/compose.yaml" "$@"; }
elif has docker-compose; then
  compose() { docker-compose -f "$root/deploy/compose/compose.yaml" "$@"; }
else
  die "docker has no compose plugin, version 2; install it (https://docs.docker.com/compose/install), or run: scripts/setup observability"
fi
