# shellcheck shell=bash disable=SC2154
# What all commands of ci/cluster share: names, liveness, entering hosts, taking them away.
# $dir, $root and $self are set by ci/cluster.
net=10.231.7 # inside the cluster only: no host has a link or a route to the machine's own network

say() { echo "cluster: $*" >&2; }
die() {
  say "$*"
  exit 1
}
need_root() {
  [ "$(id -u)" = 0 ] || die "needs root (namespaces, mounts, sshd): sudo ci/cluster ..."
}
need_cluster() {
  [ -f "$dir/.aeolian-cluster" ] || {
    say "no cluster in $dir (start one: ci/cluster -d $dir up)"
    exit 3
  }
}
need_host() { # NAME
  need_cluster
  [ -n "${1:-}" ] || die "which host? (hosts: $(hosts | tr '\n' ' '))"
  hosts | grep -qxF -- "$1" || die "no host '$1' (hosts: $(hosts | tr '\n' ' '))"
}
need_alive() { # NAME
  need_host "${1:-}"
  alive "$1" || die "host $1 is dead (start it again: ci/cluster -d $dir up)"
}

hosts() { cat "$dir/etc/names"; } # ctl, n1, n2, ...
address() { # NAME
  if [ "$1" = ctl ]; then echo "$net.1"; else echo "$net.$((10 + ${1#n}))"; fi
}
init_pid() { # NAME: pid 1 of the host, as the machine sees it
  local pid
  read -r pid _ <"$dir/run/$1.init" && echo "$pid"
} 2>/dev/null

# A pid alone may have been given to another process since: its start time tells.
alive() { # NAME
  local pid start line
  local -a field
  read -r pid start <"$dir/run/$1.init" || return 1
  read -r line <"/proc/$pid/stat" || return 1
  read -ra field <<<"${line##*) }" # after the name: field 3 (state) on
  [ "${field[0]}" != Z ] && [ "${field[19]}" = "$start" ]
} 2>/dev/null

in_net() { # NAME CMD...: only the network of NAME; the files and processes of the machine
  local pid
  pid=$(init_pid "$1")
  shift
  nsenter -t "$pid" --net -- "$@"
}

# The command dies with us: killing `ci/cluster exec` (or a timeout around it) leaves no orphan on the host.
host_exec() { # NAME CMD...
  need_alive "${1:-}"
  [ $# -ge 2 ] || die "exec $1: which command?"
  local pid
  pid=$(init_pid "$1")
  shift
  # shellcheck disable=SC1091
  . "$dir/env"
  # shellcheck disable=SC2016
  exec nsenter -t "$pid" --net --uts --ipc --mount --pid -- setpriv --pdeathsig TERM -- \
    sh -c 'cd -- "$1" || exit 127; shift; exec "$@"' sh "$PWD" "$@"
}
on() { (cd / && host_exec "$@"); } # the same for our own use, as a child

# Power failure: no cable first, so that no dying socket can say goodbye.
host_kill() { # NAME
  need_alive "${1:-}"
  in_net switch ip link del "v-$1"
  kill -9 "$(init_pid "$1")"
  wait_dead "$1"
}
host_cut() { # NAME: the port of the switch forgets the host; its link stays up, as in a real partition
  need_alive "${1:-}"
  in_net switch ip link set "v-$1" nomaster
}
host_heal() { # NAME
  need_alive "${1:-}"
  in_net switch ip link set "v-$1" master br0
}
wait_dead() { # NAME
  for _ in {1..500}; do
    alive "$1" || return 0
    sleep 0.01
  done
  die "host $1 (pid $(init_pid "$1")) does not die"
}

cluster_down() {
  [ -e "$dir" ] || return 0
  [ -f "$dir/.aeolian-cluster" ] || die "$dir is not a cluster's directory: left alone"
  exec 8<"$dir"
  flock -w 60 8 || die "another ci/cluster works in $dir"
  # pid 1 of a host takes all processes of the host with it, and they its namespaces and mounts
  local h
  for h in switch $(hosts); do
    if alive "$h"; then kill -9 "$(init_pid "$h")"; fi
  done
  for h in switch $(hosts); do wait_dead "$h"; done
  # Processes end before the last reference to their mounts does
  for _ in {1..100}; do
    rm -rf --one-file-system -- "$dir" 2>/dev/null && return 0
    sleep 0.02
  done
  rm -rf --one-file-system -- "$dir"
}

cluster_status() {
  local h bad=0 wire ssh slurm states=
  states=$(on ctl timeout 5 sinfo -h -N -o '%N %T' 2>/dev/null) || bad=1
  printf '%-6s %-14s %-6s %-8s %-5s %s\n' HOST ADDRESS HOST NETWORK SSHD SLURM
  for h in $(hosts); do
    if ! alive "$h"; then
      printf '%-6s %-14s %-6s %-8s %-5s %s\n' "$h" "$(address "$h")" dead - - -
      bad=1
      continue
    fi
    wire=cut ssh=down slurm=down
    if grep -q 'master br0' <<<"$(in_net switch ip link show "v-$h" 2>/dev/null)"; then wire=up; fi
    if has_process "$h" sshd; then ssh=up; fi
    if [ "$h" = ctl ]; then
      if [ -n "$states" ]; then slurm=slurmctld; fi
    elif has_process "$h" slurmd; then
      slurm=$(awk -v h="$h" '$1 == h { print $2 }' <<<"$states")
      slurm=${slurm:-unknown}
    fi
    case $wire/$ssh/$slurm in
      up/up/slurmctld | up/up/idle | up/up/mixed | up/up/allocated | up/up/completing) ;;
      *) bad=1 ;;
    esac
    printf '%-6s %-14s %-6s %-8s %-5s %s\n' "$h" "$(address "$h")" alive "$wire" "$ssh" "$slurm"
  done
  return $bad
}
has_process() { # HOST NAME
  local pid
  pid=$(init_pid "$1")
  # the host's own /proc, seen through the root of its pid 1
  grep -qxsF -- "$2" "/proc/$pid/root/proc/"[0-9]*/comm
}
