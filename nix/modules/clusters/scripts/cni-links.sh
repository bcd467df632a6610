# Links the programs of network plugins: cni-links.sh DIRECTORY PACKAGE…. What others put there (a DaemonSet of a network,
# for instance) stays; only links whose program is gone are taken away.
set -eu
directory=$1
shift
mkdir -p "$directory"
find "$directory" -maxdepth 1 -xtype l -delete
for package in "$@"; do
  for program in "$package"/bin/*; do
    [ ! -x "$program" ] || ln -sfn "$program" "$directory/"
  done
done
