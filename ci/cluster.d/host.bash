# shellcheck shell=bash disable=SC2154
# What runs inside a host: its pid 1, and the start of its daemons.

# pid 1: makes the host's own view of the machine, says that it is ready, reaps orphans until it is killed.
host_init() { # NAME
  local name=$1 pid line m
  local -a field
  # Still the machine's /proc: here we learn our pid out there. (No $(<...): that would be a child's pid.)
  read -r line </proc/self/stat
  pid=${line%% *}
  read -ra field <<<"${line##*) }"
  mount -t proc proc /proc
  hostname "$name"
  mount -t tmpfs -o mode=1777 tmpfs /dev/shm
  ip link set lo up
  if [ "$name" = switch ]; then
    ip link add br0 type bridge
    ip link set br0 up
  else
    host_files
  fi
  echo "$pid ${field[19]}" >"$dir/run/$name.init.new"
  mv "$dir/run/$name.init.new" "$dir/run/$name.init"
  # bash reaps whatever was orphaned on this host
  while :; do
    sleep 3600 &
    wait $! || true
  done
}

host_files() {
  local keep inner m
  # /sys of this network, with the cgroup tree kept (slurmd 22.05 refuses to start without) but read-only:
  # so no daemon can leave a cgroup behind.
  if mountpoint -q /sys/fs/cgroup; then
    mkdir -p "$dir/mnt/$name"
    mount --rbind /sys/fs/cgroup "$dir/mnt/$name"
    mount -t sysfs sysfs /sys
    mount --rbind "$dir/mnt/$name" /sys/fs/cgroup
    umount -R -l "$dir/mnt/$name"
    while read -r _ _ _ _ m _; do
      case $m in /sys/fs/cgroup | /sys/fs/cgroup/*) mount -o remount,bind,ro "$m" ;; esac
    done </proc/self/mountinfo
  else
    mount -t sysfs sysfs /sys
  fi

  # Own /tmp: node-local, as on a real cluster. What all hosts must see stays visible in it.
  mkdir -p "$dir/tmp/$name"
  chmod 1777 "$dir/tmp/$name"
  for keep in "$dir" "$root"; do
    case $keep in /tmp/*)
      inner=$dir/tmp/$name/${keep#/tmp/}
      mkdir -p "$inner"
      mount --bind "$keep" "$inner"
      ;;
    esac
  done
  mount --rbind "$dir/tmp/$name" /tmp

  mount -t tmpfs -o mode=755 tmpfs /run
  mkdir /run/sshd
  mount -t tmpfs -o mode=755 tmpfs /var/log
  mount --bind "$dir/etc/hosts" /etc/hosts
  # Some systems lock root's password with '!', and sshd then refuses even its keys: an own file without one.
  mount --bind "$dir/etc/shadow" /etc/shadow
}

# Start what is not running. The daemons put themselves in the background.
host_daemons() { # NAME
  local name=$1
  # shellcheck disable=SC1091
  . "$dir/env"
  running sshd || /usr/sbin/sshd -f "$dir/etc/sshd_config" -h "$dir/etc/hostkey-$name" -E "$dir/log/sshd-$name.log"
  if [ "$name" = ctl ]; then
    # Own key and socket: a munged of the machine is not ours to use or to stop.
    running munged || /usr/sbin/munged --force --key-file="$dir/etc/munge.key" --socket="$dir/run/munge.socket" \
      --pid-file="$dir/run/munged.pid" --log-file="$dir/log/munged.log" --seed-file="$dir/run/munged.seed" \
      2>>"$dir/log/munged.log"
    running slurmctld || slurmctld
  else
    running slurmd || slurmd -N "$name"
  fi
}
running() { # PROCESS NAME
  local f state
  for f in /proc/[0-9]*/status; do
    state=
    while read -r key value _; do
      case $key in
        Name:) [ "$value" = "$1" ] || continue 2 ;;
        State:) state=$value; break ;;
      esac
    done <"$f"
    [ "${state:-Z}" = Z ] || return 0
  done 2>/dev/null
  return 1
}
