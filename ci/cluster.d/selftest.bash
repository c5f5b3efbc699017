# shellcheck shell=bash disable=SC2154
# ci/cluster selftest: every promise of the cluster, tried on a private one; then what it leaves behind: nothing.

selftest() {
  # shellcheck source=ci/cluster.d/up.bash
  . "$self.d/up.bash"
  base=$(mktemp -d "${TMPDIR:-/tmp}/aeolian-selftest.XXXXXX")
  dir=$base/cluster
  local before=$base/before
  failed=0
  trap '"$self" -d "$dir" down; rm -rf -- "$base"' EXIT
  c() { timeout 60 "$self" -d "$dir" "$@"; }

  snapshot >"$before"
  : >"$base/stamp"
  check "up" c up -n 3
  check "status: all well" quiet c status
  local namespaces h
  namespaces=$(for h in switch $(hosts); do readlink "/proc/$(init_pid "$h")/ns/"{net,pid,uts,ipc,mnt}; done | sort -u)
  check "25 namespaces: 5 of each host and of the switch" test "$(wc -l <<<"$namespaces")" = 25

  check "own hostname" test "$(c exec n2 hostname)" = n2
  # shellcheck disable=SC2016
  check "own process tree" grep -q '_init n2 $' <(c exec n2 sh -c 'tr "\0" " " </proc/1/cmdline')
  check "own address, no way out" test "$(c exec n2 ip -4 -o route | tr -d '\n ')" = "$net.0/24deveth0protokernelscopelinksrc$net.12"
  c exec n1 sh -c ': > /dev/shm/aeolian-mark; : > /tmp/aeolian-mark; : > /run/aeolian-mark'
  check "own /dev/shm, /tmp and /run" test -z "$(find /dev/shm /tmp /run -maxdepth 1 -name aeolian-mark)"
  check "the same on another host" not c exec n2 sh -c 'ls /dev/shm/aeolian-mark /tmp/aeolian-mark /run/aeolian-mark 2>/dev/null | grep .'
  check "cgroups read-only" not c exec n1 sh -c 'test ! -d /sys/fs/cgroup/. || mkdir /sys/fs/cgroup/aeolian-mark 2>/dev/null'
  check "exec: working directory" test "$(cd "$root/ci" && c exec n1 pwd)" = "$root/ci"
  check "exec: exit code" test "$(c exec n1 sh -c 'exit 7' || echo $?)" = 7

  check "ssh n1 -> n2" test "$(c exec n1 ssh n2 hostname)" = n2
  check "ssh -F ssh-config" test "$(c exec n1 /usr/bin/ssh -F "$(c ssh-config)" n3 hostname)" = n3
  check "ssh: environment" test "$(c exec n1 ssh n2 printenv AEOLIAN_CLUSTER)" = "$dir"
  sed 's/^n2,[^ ]*/n3x/; s/^n3,[^ ]*/n2/' "$dir/etc/known_hosts" >"$base/wrong"
  check "ssh: a wrong host key is refused" not c exec n1 ssh -o UserKnownHostsFile="$base/wrong" n2 true
  check "ssh: an unknown host is refused" not c exec n1 ssh -o UserKnownHostsFile=/dev/null n2 true

  check "srun on 3 nodes" test "$(c exec ctl srun -N3 hostname | sort | tr '\n' ' ')" = "n1 n2 n3 "
  check "cut: silence" cut_is_silent
  check "heal" quiet c exec n1 ssh n2 true
  # A killed exec takes its command along.
  timeout 0.5 "$self" -d "$dir" exec n1 sleep 4242 || true
  check "a killed exec leaves no orphan" gone_within 2 n1 'sleep 4242'
  check "kill: the host is dead" killed_is_dead
  check "up again: it is back" c up
  check "status: all well again" quiet c status
  check "srun again" test "$(c exec ctl srun -N3 hostname | sort | tr '\n' ' ')" = "n1 n2 n3 "

  check "the searches for remains see a running cluster" test -n "$(leftover_namespaces)" -a -n "$(leftover_processes)"
  # A running job must not keep anything alive.
  c exec ctl sbatch -Q -N3 -o /dev/null --wrap 'srun sleep 4243'
  check "down, with a job running" c down
  check "down again is harmless" c down
  check "no namespace is left" test -z "$(leftover_namespaces)"
  check "no process is left" test -z "$(leftover_processes)"
  check "no directory is left" test ! -e "$dir"
  check "no file was written in /etc, /run, /root or /var" test -z "$(fresh_files)"
  snapshot >"$base/after"
  check "mounts, links, cgroups, SysV ipc as before" diff "$before" "$base/after"
  [ $failed = 0 ] || die "selftest: $failed checks failed"
  say "selftest: all passed"
}

check() { # NAME COMMAND...
  if "${@:2}"; then
    echo "ok      $1"
  else
    echo "FAILED  $1"
    failed=$((failed + 1))
  fi
}
not() { ! "$@" 2>/dev/null; }
quiet() { "$@" >/dev/null; }

cut_is_silent() {
  c cut n2
  # neither refused nor closed: no answer at all, until it is healed
  timeout 1 "$self" -d "$dir" exec n1 bash -c ': </dev/tcp/n2/22' 2>/dev/null
  local code=$? seen
  seen=$(c status || true)
  c heal n2
  [ $code = 124 ] && grep -qE '^n2 .*alive +cut' <<<"$seen"
}
killed_is_dead() {
  local pid
  pid=$(init_pid n3)
  c kill n3
  [ ! -e "/proc/$pid" ] || return 1
  not c exec n3 true || return 1
  grep -qE '^n3 .*dead' <<<"$(c status || true)"
}
gone_within() { # SECONDS HOST COMMAND LINE
  local end=$((SECONDS + $1))
  while c exec "$2" pgrep -xf -- "$3" >/dev/null; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.1
  done
}

snapshot() {
  cut -d' ' -f5- /proc/self/mountinfo | sort
  ip -o link | sed 's/^[0-9]*: //; s/ .*//' | sort
  ls -A /run/netns 2>/dev/null || true
  find /sys/fs/cgroup -type d -name '*slurm*' 2>/dev/null | sort
  ipcs -a | grep '^0x' || true
}
leftover_namespaces() {
  # the kernel names a namespace by number; a process or a mount would hold it
  { find /proc/[0-9]*/ns -lname '*:*' -printf '%l\n' 2>/dev/null; awk '$9 == "nsfs" { print $4 }' /proc/self/mountinfo; } |
    sort -u | grep -xF -- "$namespaces" || true
}
leftover_processes() {
  local p
  for p in /proc/[0-9]*; do
    case ${p#/proc/} in "$$" | "$BASHPID") continue ;; esac
    if { tr '\0' ' ' <"$p/cmdline"; tr '\0' '\n' <"$p/environ"; readlink "$p/cwd" || true; } 2>/dev/null | grep -F -- "$dir" >/dev/null; then
      echo "${p#/proc/} $(tr '\0' ' ' <"$p/cmdline")"
    fi
  done 2>/dev/null
}
fresh_files() {
  # by what these daemons write; other programs of the machine may be at work meanwhile
  find /etc /run /root/.ssh /var/log /var/lib /var/spool -xdev -newer "$base/stamp" \
    \( -path '*slurm*' -o -path '*munge*' -o -path '*ssh*' -o -name 'wtmp*' -o -name 'lastlog*' -o -path '/etc/*' \) 2>/dev/null || true
}
