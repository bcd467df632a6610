export const K3S_DATA = '/var/lib/rancher/k3s'
export const K3S_SERVER = `${K3S_DATA}/server`
export const K3S_TLS = `${K3S_SERVER}/tls`
/** The permanent secret of servers: k3s has no other. */
export const SERVER_TOKEN = `${K3S_SERVER}/token`
/** The administrator's. */
export const K3S_KUBECONFIG = '/etc/rancher/k3s/k3s.yaml'
