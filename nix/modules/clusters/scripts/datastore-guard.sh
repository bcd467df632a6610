# Keeps a server that lost its datastore from founding a cluster: datastore-guard.sh MEMBER DATASTORE.
# MEMBER is there once the server has been a member; whoever wants it to join anew removes it.
if [ -e "$1" ] && [ ! -d "$2" ]; then
  echo "this server is a member of its cluster, but its datastore $2 is gone: it would found a new cluster under the same name." >&2
  echo "Let it leave and join again, or restore a snapshot; both remove $1." >&2
  exit 1
fi
