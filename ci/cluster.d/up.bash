# shellcheck shell=bash disable=SC2154
# ci/cluster up: state directory, configuration, hosts, wires, daemons.

cluster_up() {
  local n='' h i new=() OPTIND=1
  while getopts :n: o; do
    case $o in
      n) n=$OPTARG ;;
      *) die "up: unknown option -$OPTARG (up -n HOSTS)" ;;
    esac
  done
  shift $((OPTIND - 1))
  [ $# = 0 ] || die "up: unexpected '$1'"
  [[ ${n:-1} =~ ^[1-9][0-9]?$ ]] || die "up: -n takes a number of hosts from 1 to 99, not '$n'"
  need_root
  preflight
  make_dir
  exec 9<"$dir"
  flock -w 60 9 || die "another ci/cluster works in $dir"
  if [ -f "$dir/etc/names" ]; then
    i=$(($(hosts | wc -l) - 1))
    [ "${n:-$i}" = "$i" ] || die "there is a cluster of $i hosts in $dir: ci/cluster -d $dir down first"
  else
    configure "${n:-4}"
  fi
  trap '[ $? = 0 ] || say "not up; logs: $dir/log (ci/cluster -d $dir down cleans up)"' EXIT

  alive switch || {
    # without the switch the others' wires are gone: start afresh
    for h in $(hosts); do if alive "$h"; then kill -9 "$(init_pid "$h")"; wait_dead "$h"; fi; done
    spawn switch
    wait_ready switch
  }
  for h in $(hosts); do alive "$h" || new+=("$h"); done
  for h in "${new[@]}"; do spawn "$h"; done
  for h in "${new[@]}"; do wait_ready "$h"; wire "$h"; done

  # sshd everywhere and the controller first: a slurmd that finds none waits a whole second before it asks again
  on ctl "$self" -d "$dir" _daemons ctl 9<&-
  local pids=()
  for h in $(hosts); do
    [ "$h" = ctl ] && continue
    on "$h" "$self" -d "$dir" _daemons "$h" 9<&- &
    pids+=($!)
  done
  for i in "${pids[@]}"; do wait "$i" || die "a daemon did not start: $(last_words)"; done
  wait_idle
}

preflight() {
  local c missing=()
  for c in unshare nsenter setpriv flock ip hostname mountpoint ssh-keygen ssh munged slurmctld slurmd sinfo scontrol; do
    command -v "$c" >/dev/null || [ -x "/usr/sbin/$c" ] || missing+=("$c")
  done
  [ -x /usr/sbin/sshd ] || missing+=(sshd)
  [ ${#missing[@]} = 0 ] || die "not installed: ${missing[*]} (ci/setup installs them)"
  unshare --net --uts --ipc --mount --pid --fork true 2>/dev/null ||
    die "this kernel or container gives no namespaces ($(unshare --net --uts --ipc --mount --pid --fork true 2>&1 | head -n 1)): in Docker use --privileged"
  unshare --net --mount sh -c 'ip link add name ve0 type veth peer name ve1 && ip link add name br0 type bridge' 2>/dev/null ||
    die "this kernel has no veth or bridge devices (modprobe veth bridge)"
  unshare --mount mount -t tmpfs tmpfs /dev/shm 2>/dev/null || die "mounting is not allowed here: in Docker use --privileged"
}

make_dir() {
  [[ $dir =~ ^/[A-Za-z0-9._/+-]+$ ]] || die "the directory's name may hold letters, digits and ._/+- only: $dir"
  case $dir in /run/* | /dev/* | /var/log/* | /sys/* | /proc/*) die "$dir would be hidden on the hosts: choose another -d DIR" ;; esac
  [ ${#dir} -le 80 ] || die "the directory's name is too long for a socket: $dir"
  if [ -e "$dir" ] || [ -L "$dir" ]; then
    # /tmp is everybody's: never write into what another user has put there
    if [ ! -d "$dir" ] || [ -L "$dir" ] || [ ! -O "$dir" ]; then die "$dir is not a directory of ours"; fi
    [ -f "$dir/.aeolian-cluster" ] || [ -z "$(ls -A "$dir")" ] || die "$dir holds other files"
  else
    mkdir -m 700 "$dir"
  fi
  chmod 700 "$dir"
  : >"$dir/.aeolian-cluster"
  mkdir -p "$dir"/{etc,run,log,state,mnt,tmp,bin}
}

configure() { # HOSTS
  local h names=(ctl) i e=$dir/etc
  for ((i = 1; i <= $1; i++)); do names+=("n$i"); done
  printf '127.0.0.1 localhost\n' >"$e/hosts"
  for h in "${names[@]}"; do echo "$(address "$h") $h" >>"$e/hosts"; done

  # ssh: a key for the user, a key for each host, and the list of those by which a client knows a host
  ssh-keygen -q -t ed25519 -N '' -C aeolian-cluster -f "$e/id" <<<y >/dev/null
  cp "$e/id.pub" "$e/authorized_keys"
  : >"$e/known_hosts"
  for h in "${names[@]}"; do
    ssh-keygen -q -t ed25519 -N '' -C "$h" -f "$e/hostkey-$h" <<<y >/dev/null
    echo "$h,$(address "$h") $(cut -d' ' -f1,2 "$e/hostkey-$h.pub")" >>"$e/known_hosts"
  done
  (umask 077; printf 'root:*:19000::::::\n' >"$e/shadow")
  cat >"$e/sshd_config" <<CONF
AuthorizedKeysFile $e/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
StrictModes no
PidFile none
PrintMotd no
MaxStartups 200
MaxSessions 200
SetEnv AEOLIAN_CLUSTER=$dir SLURM_CONF=$e/slurm.conf PATH=$dir/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
CONF
  cat >"$e/ssh_config" <<CONF
Host *
  User root
  IdentityFile $e/id
  IdentitiesOnly yes
  UserKnownHostsFile $e/known_hosts
  GlobalKnownHostsFile none
  StrictHostKeyChecking yes
  UpdateHostKeys no
  BatchMode yes
  ConnectTimeout 5
  LogLevel ERROR
CONF
  printf '#!/bin/sh\nexec /usr/bin/ssh -F %s "$@"\n' "$e/ssh_config" >"$dir/bin/ssh"
  chmod +x "$dir/bin/ssh"

  cat >"$dir/env" <<ENV
export AEOLIAN_CLUSTER=$dir SLURM_CONF=$e/slurm.conf
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
case :\$PATH: in *:$dir/bin:*) ;; *) export PATH=$dir/bin:\$PATH:/usr/sbin:/sbin ;; esac
ENV

  (umask 077; head -c 128 /dev/urandom >"$e/munge.key")
  slurm_conf >"$e/slurm.conf"
  # Nothing here needs cgroups; only newer versions can be told so.
  case $(slurmd -V) in
    *\ 2[0-3].*) echo "CgroupPlugin=cgroup/v1" ;;
    *) echo "CgroupPlugin=disabled" ;;
  esac >"$e/cgroup.conf"
  for h in "${names[@]:1}"; do mkdir -p "$dir/spool/$h"; done
  printf '%s\n' "${names[@]}" >"$e/names" # last: says that the configuration is complete
}

slurm_conf() {
  cat <<CONF
ClusterName=aeolian
SlurmctldHost=ctl($(address ctl))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job may not start before its old credential has expired: 120 s unless told.
AuthInfo=socket=$dir/run/munge.socket,cred_expire=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd-%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd-%n.log
SlurmctldPort=6817
SlurmdPort=6818
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
# The files are shared: with one TmpFS for all, the PMIx plugins of two nodes would meet in it.
TmpFS=$dir/spool/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
# Believe CPUs= below though the machine has fewer.
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
# A silent node is DOWN after about 20 s.
SlurmdTimeout=15
SlurmctldTimeout=30
MessageTimeout=5
KillWait=3
UnkillableStepTimeout=20
SchedulerParameters=sched_min_interval=100000,bf_interval=2
CONF
  for h in "${names[@]:1}"; do
    echo "NodeName=$h NodeAddr=$(address "$h") CPUs=4 RealMemory=4000 State=UNKNOWN"
  done
  echo "PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP"
}

spawn() { # NAME
  rm -f "$dir/run/$1.init"
  case $1 in
    ctl) rm -f "$dir/run/"{slurmctld.pid,munged.pid,munge.socket,munge.socket.lock} ;;
    n*) rm -f "$dir/run/slurmd-$1.pid" ;;
  esac
  setsid unshare --net --uts --ipc --mount --pid --fork --kill-child \
    "$self" -d "$dir" _init "$1" </dev/null >>"$dir/log/host-$1.log" 2>&1 9<&- &
}
wait_ready() { # NAME
  for _ in {1..1000}; do
    [ -s "$dir/run/$1.init" ] && return
    sleep 0.01
  done
  die "host $1 did not start: $(tail -n 3 "$dir/log/host-$1.log")"
}
wire() { # NAME: a cable from the switch to the host; neither end ever is on the machine's own network
  in_net switch ip link del "v-$1" 2>/dev/null || true
  in_net switch ip link add "v-$1" type veth peer name eth0 netns "$(init_pid "$1")"
  in_net switch ip link set "v-$1" master br0 up
  printf '%s\n' "addr add $(address "$1")/24 dev eth0" "link set eth0 up" | in_net "$1" ip -batch -
}

wait_idle() { # every node ready for work; one that a test left down or drained is put back
  local total ready bad deadline=$((SECONDS + 40))
  total=$(($(hosts | wc -l) - 1))
  while [ $SECONDS -lt $deadline ]; do
    ready=$(on ctl timeout 10 sinfo -h -N -o '%T' 2>/dev/null | grep -cxE 'idle|mixed|allocated|completing' || true)
    [ "$ready" = "$total" ] && return
    bad=$(on ctl timeout 10 sinfo -h -t drained,draining,down,fail -o '%N' 2>/dev/null || true)
    [ -z "$bad" ] || on ctl timeout 10 scontrol update "nodename=$bad" state=resume 2>/dev/null || true
    sleep 0.1
  done
  die "only $ready of $total nodes are ready: $(last_words)"
}
last_words() { tail -q -n 2 "$dir"/log/*.log 2>/dev/null | tail -n 12; }
