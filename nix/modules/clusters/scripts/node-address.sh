# Waits for the node's address and writes it for the units of Kubernetes: node-address.sh DIRECTORY [INTERFACE].
# Without an interface it is the one of the default route. An IPv4 address is preferred to an IPv6 one.
set -eu
directory=$1
wanted=${2:-}

default_interface() {
  { ip -o -4 route show default; ip -o -6 route show default; } 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1
}

first_address() {
  { ip -o -4 addr show dev "$1" scope global; ip -o -6 addr show dev "$1" scope global -temporary -tentative; } 2>/dev/null |
    sed -n 's/.* inet6\{0,1\} \([0-9a-f.:]*\)\/.*/\1/p' | head -n 1
}

for _ in $(seq 240); do
  interface=${wanted:-$(default_interface)}
  address=
  [ -z "$interface" ] || address=$(first_address "$interface")
  if [ -n "$address" ]; then
    host=$address
    case $address in *:*) host="[$address]" ;; esac
    printf 'MUSTER_NODE_ADDRESS=%s\nMUSTER_NODE_HOST=%s\nMUSTER_NODE_INTERFACE=%s\n' "$address" "$host" "$interface" >"$directory/address.env.new"
    mv "$directory/address.env.new" "$directory/address.env"
    # What etcd's own module writes into its unit cannot hold a variable: its environment can.
    printf 'ETCD_LISTEN_CLIENT_URLS=https://127.0.0.1:2379,https://%s:2379\nETCD_ADVERTISE_CLIENT_URLS=https://%s:2379\nETCD_LISTEN_PEER_URLS=https://%s:2380\nETCD_INITIAL_ADVERTISE_PEER_URLS=https://%s:2380\n' \
      "$host" "$host" "$host" "$host" >"$directory/etcd.env.new"
    mv "$directory/etcd.env.new" "$directory/etcd.env"
    if [ -e /etc/k0s/k0s.yaml ]; then
      sed "s/@node-address@/$address/g" /etc/k0s/k0s.yaml >"$directory/k0s.yaml.new"
      mv "$directory/k0s.yaml.new" "$directory/k0s.yaml"
    fi
    printf '%s\n' "$address" >"$directory/address.new"
    mv "$directory/address.new" "$directory/address"
    echo "the node's address is $address, of $interface"
    exit 0
  fi
  sleep 1
done
echo "no address on ${wanted:-the interface of the default route} in four minutes: bring the interface up, or write node-interface in fleet.toml" >&2
exit 1
