# What a plan is made of. A plan is written by `cargo xtask rig` and run in the guest, with this file sourced.
#
#   client --- router --- isp1 --- far1        192.168.1.2 --- 100.64.1.2 --- 203.0.113.1
#                   \---- isp2 --- far2                    \-- 100.64.2.2 --- 198.51.100.1
#
# Each is a network namespace. The router's interface `wan` has the CAKE of the upload; what arrives there is
# redirected to `ifb4wan`, which has the one of the download. The second line has `wan2` and `ifb4wan2`.
# An ISP is a token bucket before a deep FIFO in either direction. The far end answers pings on .11 to .16 too;
# netem there makes the round-trip time.
set -u

wan=([1]=wan [2]=wan2)
ifb=([1]=ifb4wan [2]=ifb4wan2)
net=([1]=203.0.113 [2]=198.51.100)
fifo_kb=()

# Writes a line with the time into the events.
event() { echo "$EPOCHREALTIME $*" >>"$OUT/events"; }

mark() { event "mark $*"; }

# Waits until so many seconds after the start of the plan; starts no process.
at() {
  local now=${EPOCHREALTIME/./} until
  printf -v until '%.0f' "${1}e6"
  until=$((start + until - now))
  [ "$until" -le 0 ] || read -rt "$(printf '%d.%06d' $((until / 1000000)) $((until % 1000000)))" -u "$nap"
}

# veth NAMESPACE INTERFACE ADDRESS NAMESPACE INTERFACE ADDRESS
veth() {
  ip link add "$2" netns "$1" type veth peer name "$5" netns "$4"
  local end
  for end in "$1 $2 $3" "$4 $5 $6"; do
    # shellcheck disable=SC2086 # three words
    set -- $end
    # Packets as large as on a real line.
    ip netns exec "$1" ethtool -K "$2" tso off gso off gro off tx off >/dev/null
    ip -n "$1" address add "$3/24" dev "$2"
    ip -n "$1" link set "$2" up
  done
}

namespace() {
  ip netns add "$1"
  ip -n "$1" link set lo up
  ip netns exec "$1" sysctl -qw net.ipv4.ip_forward=1 net.ipv4.icmp_ratemask=0
}

# The machines at home.
home() {
  namespace client
  namespace router
  veth client eth0 192.168.1.2 router lan 192.168.1.1
  ip -n client route add default via 192.168.1.1
}

# What a token bucket of so many kbit/s lets through at once: what comes in 1 ms, or a few packets.
burst() { burst=$(($1 > 48000 ? $1 / 8 : 6000))b; }

# line NUMBER DOWN_KBIT UP_KBIT FIFO_KB NETEM...: one WAN with the ISP and the far end behind it.
line() {
  local n=$1 down=$2 up=$3 isp=isp$1 far=far$1 address
  fifo_kb[n]=$4
  shift 4
  namespace "$isp"
  namespace "$far"
  veth router "${wan[n]}" "100.64.$n.2" "$isp" access "100.64.$n.1"
  veth "$isp" core "${net[n]}.254" "$far" eth0 "${net[n]}.1"
  for address in 11 12 13 14 15 16; do ip -n "$far" address add "${net[n]}.$address/24" dev eth0; done
  ip -n router route add "${net[n]}.0/24" via "100.64.$n.1"
  ip -n "$isp" route add 192.168.1.0/24 via "100.64.$n.2"
  ip -n "$far" route add default via "${net[n]}.254"
  tc -n "$far" qdisc add dev eth0 root netem "$@" limit 50000
  burst "$down"
  tc -n "$isp" qdisc add dev access root handle 1: tbf rate "${down}kbit" burst "$burst" limit "${fifo_kb[n]}kb"
  burst "$up"
  tc -n "$isp" qdisc add dev core root handle 1: tbf rate "${up}kbit" burst "$burst" limit "${fifo_kb[n]}kb"
  # One tc per ISP is told of all changes.
  exec {tell}> >(exec tc -n "$isp" -force -batch -)
  teller[n]=$tell
  event "capacity $n $down $up"
}

# upstream_slots NUMBER NETEM...: the access network collects packets of the upload for its next slot.
upstream_slots() {
  local isp=isp$1
  shift
  ip -n "$isp" link add slots type ifb
  ip -n "$isp" link set slots up
  tc -n "$isp" qdisc add dev slots root netem "$@" limit 50000
  tc -n "$isp" qdisc add dev access handle ffff: ingress
  tc -n "$isp" filter add dev access parent ffff: matchall action mirred egress redirect dev slots
}

# capacity NUMBER DOWN_KBIT UP_KBIT: from now on.
capacity() {
  local change="root handle 1: tbf limit ${fifo_kb[$1]}kb"
  burst "$2"
  echo "qdisc change dev access $change rate ${2}kbit burst $burst" >&"${teller[$1]}"
  burst "$3"
  echo "qdisc change dev core $change rate ${3}kbit burst $burst" >&"${teller[$1]}"
  event "capacity $*"
}

# fails NUMBER, works NUMBER: nothing comes through, silently, and the router's interface stays up.
fails() { ip netns exec "isp$1" sysctl -qw net.ipv4.ip_forward=0; }
works() { ip netns exec "isp$1" sysctl -qw net.ipv4.ip_forward=1; }

# shapers NUMBER DOWN_KBIT UP_KBIT: the CAKE under control.
shapers() {
  local up=${wan[$1]} down=${ifb[$1]}
  ip -n router link add "$down" type ifb
  ip -n router link set "$down" up
  tc -n router qdisc add dev "$up" root cake bandwidth "${3}kbit" besteffort
  tc -n router qdisc add dev "$up" handle ffff: ingress
  tc -n router filter add dev "$up" parent ffff: matchall action mirred egress redirect dev "$down"
  tc -n router qdisc add dev "$down" root cake bandwidth "${2}kbit" besteffort ingress
  event "shaper $down ${2}"
  event "shaper $up ${3}"
}

# servers NUMBER PORT...: what loads talk to; each serves one load at a time.
servers() {
  local far=far$1 port
  shift
  for port in "$@"; do ip netns exec "$far" iperf3 -s -D -p "$port"; done
}

# load NUMBER PORT down|up FLOWS SECONDS: TCP in one direction, from now on.
load() {
  local name=load-$((++loads)).json reverse=() line=$1 far=${net[$1]}.1 port=$2
  shift 2
  [ "$1" = up ] || reverse=(-R)
  event "load $line $1 $name"
  ip netns exec client iperf3 -c "$far" -p "$port" "${reverse[@]}" -P "$2" -t "$3" -i 1 --json \
    >"$OUT/$name" 2>>"$OUT/iperf3.log" &
  loaders+=($!)
}

# observe NUMBER: a ping every 50 ms, as a user at home would send it.
observe() {
  ip netns exec client fping -D -l -p 50 -t 5000 "${net[$1]}.1" >"$OUT/rtt-$1" 2>/dev/null &
  observers+=($!)
}

# controller COMMAND...: runs in the router until the plan ends.
controller() {
  ip netns exec router "$@" >"$OUT/controller.log" 2>&1 &
  controlled=$!
}

# Ends the plan if the controller is not there.
controller_lives() {
  [ -n "$controlled" ] || return 0
  local state
  # A process that has ended stays as a zombie until it is waited for.
  state=$(cat "/proc/$controlled/stat" 2>/dev/null) && [[ $state != *') Z '* ]] && return
  wait "$controlled"
  echo "the controller has ended $1, with exit status $?" >"$OUT/failed"
  exit 1
}

finish() {
  mark end
  # A load writes its report when both ends have agreed that it is over.
  if [ ${#loaders[@]} -gt 0 ]; then
    (sleep 10; kill "${loaders[@]}" 2>/dev/null) &
    wait "${loaders[@]}"
  fi
  kill "${observers[@]}"
  tc -n router -s qdisc show >"$OUT/qdiscs"
  controller_lives "during the run"
  kill "$monitor"
  [ -z "$controlled" ] || { kill "$controlled"; wait "$controlled"; }
  event "controller ends with $?"
  exit 0
}

teller=() observers=() loaders=() controlled='' loads=0
mkfifo /run/nap
exec {nap}<>/run/nap
# Programs that take a monotonic time of 0 for "unknown" misbehave at once after the boot.
start=${EPOCHREALTIME/./}
at 1

# All changes of the shapers, from the kernel.
watch() {
  ip netns exec router tc -tshort monitor >"$OUT/rates" 2>&1 &
  monitor=$!
}
