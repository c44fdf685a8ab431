#!/usr/bin/env bash
# Starts `hello` on this machine: engine vllm, launcher local.
# hexc wrote this script from plan.json; README.md says what is where.
#
# Why the plan is as it is:
#   r0 layers: 3 + 1 (`fast` reads three times as quickly)
#
# Ends with 0 after SIGTERM, 130 after Ctrl-C, 2 if something is missing, 5 if a process died that is needed.
# shellcheck disable=SC2016 # what came from the spec is quoted so that nothing in it expands
set -euo pipefail

if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  echo "launch.sh: bash 4.4 or later is needed, this is $BASH_VERSION" >&2
  exit 2
fi

# ---- What runs ----------------------------------------------------------------------------------

grace=10 # seconds between SIGTERM and SIGKILL
order=(replica-0 replica-0-node-1 router)
declare -A team=(  # processes that live and die together
  [replica-0]=replica-0
  [replica-0-node-1]=replica-0
  [router]=router
)
declare -A restarts=(  # how often a team is started again
  [replica-0]=0
  [router]=0
)
declare -A spare=(  # replicas: one may be gone for good while another of them serves
  [replica-0]=1
)
declare -A after=(  # who must be ready before a process starts
  [router]=replica-0
)
declare -A url=(  # answers 200 when the process is ready
  [replica-0]=http://127.0.0.1:18101/health
  [router]=http://127.0.0.1:18100/health
)
declare -A patience=(  # seconds until it must be ready
  [replica-0]=600
  [router]=60
)

start() {
  say "starting $1"
  case "$1" in
    replica-0)
      # r0: layers 0 to 2 on fast-0:0 (cpu_core), machine 1 of 2
      spawn "$1" env -- HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind VLLM_HOST_IP=127.0.0.1 VLLM_NO_USAGE_STATS=1 VLLM_PP_LAYER_PARTITION=3,1 \
        bash config/replica-0.sh --node-rank 0
      ;;
    replica-0-node-1)
      # r0: layer 3 on slow-0:0 (cpu_core), machine 2 of 2
      spawn "$1" env -- HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind VLLM_HOST_IP=127.0.0.1 VLLM_NO_USAGE_STATS=1 VLLM_PP_LAYER_PARTITION=3,1 \
        bash config/replica-0.sh --node-rank 1 --headless
      ;;
    router)
      # shares out the requests: 100.0% to r0
      spawn "$1" env -- \
        "$python" -m hexdsl.runtime.router --config config/router.json
      ;;
  esac
}

check_prerequisites() {
  say "checking what the plan needs"
  "$python" -c 'from importlib.util import find_spec; raise SystemExit(None in map(find_spec, "hexdsl.runtime.router starlette uvicorn httpx".split()))' 2>/dev/null ||
    die 'this Python lacks one of hexdsl.runtime.router starlette uvicorn httpx: install hexdsl[run], or set HEXC_PYTHON to a Python that has it'
  "$python" -c 'import os, subprocess; raise SystemExit(subprocess.run([os.environ.get("HEXC_VLLM_PYTHON", "python3"), "-c", "import sys; from importlib.metadata import version as v; sys.exit(not v(sys.argv[1]).startswith(sys.argv[2]))", "vllm", "0.32."]).returncode)' 2>/dev/null ||
    die 'HEXC_VLLM_PYTHON (or python3) has no vLLM 0.32: install it, or set the absolute path of a Python with it'
  [[ -d /specs/models/tiny ]] ||
    die 'no weights of `tiny` in /specs/models/tiny: put a Hugging Face checkpoint there, or name another `path`'
  is_free 127.0.0.1 18101 ||
    die 'port 18101 on 127.0.0.1 (requests to replica-0) is taken: stop what uses it, or change `ports` of the target'
  is_free 127.0.0.1 18102 ||
    die 'port 18102 on 127.0.0.1 (the machines of replica-0 meet) is taken: stop what uses it, or change `ports` of the target'
  is_free 127.0.0.1 18100 ||
    die 'port 18100 on 127.0.0.1 (requests to the service) is taken: stop what uses it, or change `ports` of the target'
}

# ---- How it is run ------------------------------------------------------------------------------

declare -A pids=()     # processes that run
declare -A deadline=() # when a process that is not ready yet must be
declare -A begun=()    # when it was started
timer=''
serving=0 # whether everything was ready once

say() { printf 'hexc: %s\n' "$*" >&2 || true; }

die() {
  say "$*"
  exit 2
}

is_free() { # is_free HOST PORT
  "$python" -c '
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
socket.create_server((host, port), family=family).close()' "$@" 2>/dev/null
}

spawn() { # spawn NAME COMMAND...: in a session of its own, so that the whole family can be signalled
  local name=$1
  shift
  setsid -- "$@" </dev/null >>"logs/$name.log" 2>&1 {guard}>&- &
  pids[$name]=$!
  begun[$name]=$SECONDS
  if [[ -n ${url[$name]:-} ]]; then deadline[$name]=$((SECONDS + ${patience[$name]})); fi
  echo "+$!" >&"$guard"
}

signal() { # signal NAME PID...
  local what=$1 pid
  shift
  for pid in "$@"; do
    kill -s "$what" -- "-$pid" 2>/dev/null || kill -s "$what" "$pid" 2>/dev/null || true
  done
}

any_left() { # any_left PID...: whether one of the processes themselves still runs
  local pid
  for pid in "$@"; do
    if kill -0 "$pid" 2>/dev/null; then return 0; fi
  done
  return 1
}

end() { # end PID...: asks, waits, insists; what a process leaves of its family goes with it
  local last=$((SECONDS + grace))
  signal TERM "$@"
  while any_left "$@" && ((SECONDS < last)); do sleep 0.1; done
  signal KILL "$@"
}

stop() { # stop NAME...
  local name
  local -a families=()
  for name in "$@"; do
    if [[ -n ${pids[$name]:-} ]]; then families+=("${pids[$name]}"); fi
    unset "pids[$name]" "deadline[$name]"
  done
  end "${families[@]}"
  { printf -- '-%s\n' "${families[@]}" >&"$guard"; } 2>/dev/null || true # Ctrl-C may have reached the guard first
}

# shellcheck disable=SC2329 # the trap calls it
finish() {
  local code=$?
  trap '' INT TERM HUP PIPE
  if ((${#pids[@]})); then
    say "stopping"
    stop "${!pids[@]}"
    say "stopped"
  fi
  exit "$code"
}

# A second bash, which outlives this one: should this one be killed, it ends what was left running.
stand_guard() {
  trap '' INT TERM HUP
  local line
  local -A left=()
  while read -r line; do
    case "$line" in
      +*) left[${line:1}]=1 ;;
      -*) unset "left[${line:1}]" ;;
    esac
  done
  end "${!left[@]}"
}

show_log() { # show_log NAME
  say "the last lines of logs/$1.log:"
  tail -n 20 -- "logs/$1.log" | sed 's/^/  | /' >&2 || true
}

mourn() { # mourn NAME: starts its team again, or gives up
  local name=$1 member code=0
  local its=${team[$name]}
  local tries=${restarts[$its]}
  wait "${pids[$name]}" 2>/dev/null || code=$?
  say "$name died (exit code $code)"
  show_log "$name"
  if ((tries == 0)); then
    lose "$its"
    return
  fi
  restarts[$its]=$((tries - 1))
  say "starting $its again; restarts left after this: $((tries - 1))"
  local -a members=()
  members_of "$its"
  stop "${members[@]}"
  for member in "${members[@]}"; do start "$member"; done
}

members_of() { # members_of TEAM: its processes that run, in `members`
  local member
  for member in "${order[@]}"; do
    if [[ ${team[$member]} == "$1" && -n ${pids[$member]:-} ]]; then members+=("$member"); fi
  done
}

lose() { # lose TEAM: goes on without a replica where another one serves, else ends
  local -a members=()
  if ((serving == 0)) || [[ -z ${spare[$1]:-} ]] || ((${#spare[@]} < 2)); then exit 5; fi
  unset "spare[$1]"
  members_of "$1"
  stop "${members[@]}"
  say "going on without $1; \`hexc replan\` finds the best routes for what is left"
}

ask() { # ask NAME: whether it is ready by now
  local name=$1
  if "$python" -m hexdsl.runtime.ready "${url[$name]}" 0 2>/dev/null; then
    say "$name is ready after $((SECONDS - ${begun[$name]})) s"
    unset "deadline[$name]"
  elif ((SECONDS > ${deadline[$name]})); then
    say "$name was not ready within ${patience[$name]} s (${url[$name]})"
    show_log "$name"
    lose "${team[$name]}"
  fi
}

watch() { # one look at everything, after half a second or as soon as something ends
  local name
  if ! kill -0 "${timer:-x}" 2>/dev/null; then
    sleep 0.5 {guard}>&- {lock}>&- &
    timer=$!
  fi
  wait -n || true
  for name in "${order[@]}"; do
    if [[ -n ${pids[$name]:-} ]] && ! kill -0 "${pids[$name]}" 2>/dev/null; then mourn "$name"; fi
  done
  for name in "${!deadline[@]}"; do ask "$name"; done
}

until_ready() { # until_ready NAME
  while [[ -n ${deadline[$1]:-} ]]; do watch; done
}

main() {
  if [[ ${1:-} == --guard ]]; then
    stand_guard
    return
  fi

  local name other
  python=$(command -v -- "${HEXC_PYTHON:-python3}") || die "there is no ${HEXC_PYTHON:-python3}: set HEXC_PYTHON to a Python with hexdsl"
  [[ $python == /* ]] || python=$PWD/$python
  unset CDPATH
  cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 0' TERM HUP
  for name in setsid flock; do
    command -v "$name" >/dev/null || die "there is no $name: install util-linux"
  done
  mkdir -p logs || die "logs cannot be written to $PWD"
  exec {lock}>logs/lock
  flock -n "$lock" || die "this bundle is running already, or its processes have not ended yet"
  check_prerequisites
  exec {guard}> >(exec setsid -- "$BASH" ./launch.sh --guard >/dev/null 2>&1 {lock}>&-)

  for name in "${order[@]}"; do
    : >"logs/$name.log"
    for other in ${after[$name]:-}; do until_ready "$other"; done
    if [[ -z ${pids[$name]:-} ]]; then start "$name"; fi
  done
  for name in "${order[@]}"; do until_ready "$name"; done
  serving=1
  say "logs are in $PWD/logs; Ctrl-C stops everything"
  echo 'ready: http://127.0.0.1:18100' >&2
  while true; do watch; done
}

main "$@"
exit
