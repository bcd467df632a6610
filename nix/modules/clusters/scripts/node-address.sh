# Waits for the node's address, however long that takes, and writes it for the units of Kubernetes, which systemd gives up for
# the whole boot once this ends without one: node-address.sh DIRECTORY [INTERFACE [NAME]].
# With a name it is one of the name's addresses that this machine has, on any interface but where one is given. Without both
# it is that of the default route's interface. An IPv4 address is preferred to an IPv6 one.
set -eu
directory=$1
wanted=${2:-}
name=${3:-}

default_interface() {
  { ip -o -4 route show default; ip -o -6 route show default; } 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1
}

# Lines INTERFACE ADDRESS, of one interface or of all.
addresses() {
  { ip -o -4 addr show ${1:+dev "$1"} scope global; ip -o -6 addr show ${1:+dev "$1"} scope global -temporary -tentative; } 2>/dev/null |
    sed -n 's/^[0-9]*: \([^ @]*\)[^ ]* .*inet6\{0,1\} \([0-9a-f.:]*\)\/.*/\1 \2/p'
}

# What the name stands for, each once. Where this machine has no IPv4 address yet, those are told as IPv6 ones.
known_addresses() {
  getent ahosts "$name" | sed 's/ .*//; s/^::ffff:\([0-9.]*\)$/\1/' | sort -u
}

# The first of this machine's that the name stands for. What it stands for elsewhere is no address of this node.
named_address() {
  known=$(known_addresses) || known=
  addresses "$wanted" | while read -r interface address; do
    for one in $known; do
      if [ "$one" = "$address" ]; then
        echo "$interface $address"
        return
      fi
    done
  done
}

find_address() {
  if [ -n "$name" ]; then
    named_address
    return
  fi
  interface=${wanted:-$(default_interface)}
  [ -z "$interface" ] || addresses "$interface" | head -n 1
}

say_what_is_missing() {
  if [ -n "$name" ]; then
    echo "still waiting: $name stands for no address of ${wanted:-this machine}, but for: $(known_addresses | tr '\n' ' ')" >&2
  else
    echo "still waiting: no address on ${wanted:-the interface of the default route}; bring the interface up, or write node-interface in fleet.toml" >&2
  fi
}

patience=240
say_at=$patience
while :; do
  found=$(find_address)
  interface=${found%% *}
  address=${found#* }
  if [ -n "$address" ]; then
    host=$address
    case $address in *:*) host="[$address]" ;; esac
    printf 'MUSTER_NODE_ADDRESS=%s\nMUSTER_NODE_HOST=%s\nMUSTER_NODE_INTERFACE=%s\n' "$address" "$host" "$interface" >"$directory/address.env.new"
    mv "$directory/address.env.new" "$directory/address.env"
    # What etcd's own module writes into its unit cannot hold a variable: its environment can.
    printf 'ETCD_LISTEN_CLIENT_URLS=https://127.0.0.1:2379,https://%s:2379\nETCD_ADVERTISE_CLIENT_URLS=https://%s:2379\nETCD_LISTEN_PEER_URLS=https://%s:2380\nETCD_INITIAL_ADVERTISE_PEER_URLS=https://%s:2380\n' \
      "$host" "$host" "$host" "$host" >"$directory/etcd.env.new"
    mv "$directory/etcd.env.new" "$directory/etcd.env"
    printf '%s\n' "$address" >"$directory/address.new"
    mv "$directory/address.new" "$directory/address"
    echo "the node's address is $address, of $interface"
    exit 0
  fi
  if [ "$SECONDS" -ge "$say_at" ]; then
    say_what_is_missing
    say_at=$((SECONDS + patience))
  fi
  sleep 1
done
