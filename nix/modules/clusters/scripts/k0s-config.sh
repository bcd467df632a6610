# Fills the node's address into the configuration of k0s: k0s-config.sh FROM TO. At each start of k0s and not where the address
# is found, once a boot: a restart is to bring what the configuration says by then.
set -eu
sed "s/@node-address@/$MUSTER_NODE_ADDRESS/g" "$1" >"$2.new"
mv "$2.new" "$2"
