# Keeps a server from founding a cluster when it lost its datastore, and from serving what there was before its cluster was set back to a
# snapshot: datastore-guard.sh MEMBER DATASTORE. MEMBER is there once the server has been a member; beside it is "stood-down" once the
# other servers go on without it. Every datastore of etcd has a database in it from its first start on.
if [ -e "${1%/*}/stood-down" ]; then
  echo "this server has what there was before its cluster was set back to a snapshot: the cluster goes on without that." >&2
  echo "Have it wiped and join anew: muster rejoin HOST --wipe" >&2
  exit 1
fi
if [ -e "$1" ] && [ ! -e "$2/snap/db" ]; then
  echo "this server is a member of its cluster, but its datastore $2 is gone: it would found a new cluster under the same name." >&2
  echo "If only a disk is not mounted, mount it. While other servers run: muster leave HOST --dead, then muster rejoin HOST --wipe." >&2
  echo "Where none is left: restore a snapshot (muster cluster restore)." >&2
  exit 1
fi
