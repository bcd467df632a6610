import type { JsonObject } from '../../../shared/read-value.ts'
import { KUBELET_GROUP } from '../kubernetes/bootstrap-tokens.ts'

/**
 * What a cluster needs once, when it is founded or adopted: who the administrators are whose kubeconfigs kubeadm makes, and what
 * kubelets may that join and that are in. One that kubeadm made has all but the last.
 */
export const FIRST_OBJECTS: readonly JsonObject[] = [
  bind('kubeadm:cluster-admins', 'cluster-admin', 'kubeadm:cluster-admins'),
  bind('kubeadm:kubelet-bootstrap', 'system:node-bootstrapper', KUBELET_GROUP),
  bind(
    'kubeadm:node-autoapprove-bootstrap',
    'system:certificates.k8s.io:certificatesigningrequests:nodeclient',
    KUBELET_GROUP,
  ),
  bind(
    'kubeadm:node-autoapprove-certificate-rotation',
    'system:certificates.k8s.io:certificatesigningrequests:selfnodeclient',
    'system:nodes',
  ),
  // kube-proxy and flannel show the kubelet's certificate.
  bind('muster:node-proxier', 'system:node-proxier', 'system:nodes'),
]

function bind(name: string, role: string, group: string): JsonObject {
  return {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRoleBinding',
    metadata: { name },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: role },
    subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name: group }],
  }
}
