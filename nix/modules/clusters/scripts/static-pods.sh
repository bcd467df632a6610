# Puts the manifests of the control plane where the kubelet reads them: static-pods.sh FROM TO. They are copied when this
# unit is started, and not linked, so that a switch of the system restarts no pod.
set -eu
mkdir -p "$2"
for manifest in "$1"/*.json; do
  cp "$manifest" "$2/.muster-new"
  mv "$2/.muster-new" "$2/$(basename "$manifest")"
done
