export const K3S_DATA = '/var/lib/rancher/k3s'
export const K3S_SERVER = `${K3S_DATA}/server`
export const K3S_TLS = `${K3S_SERVER}/tls`
/** The permanent secret of servers: k3s has no other. */
export const SERVER_TOKEN = `${K3S_SERVER}/token`
/** What agents join with, as k3s took it when it was started. */
export const AGENT_TOKEN = `${K3S_SERVER}/agent-token`
/** The administrator's. */
export const K3S_KUBECONFIG = '/etc/rancher/k3s/k3s.yaml'
/** The datastore is `etcd` in it; what k3s takes out of the way for another one is `etcd-old-SECONDS`. */
export const K3S_DATASTORES = `${K3S_SERVER}/db`
/** Where a reset of the datastore says that it was done; gone with the next start. */
export const RESET_FLAG = `${K3S_DATASTORES}/reset-flag`
