import { webDeployment } from '../../lab/clusters/objects.ts'

export const APP = 'shop'
/** How long a pod goes on answering after it was asked to leave, so that whoever asks hears of it first. */
const GRACE_SECONDS = 6

/** A web server of two replicas on two nodes, of which one may be away at a time, behind a service. */
export function workload(): object {
  const web = webDeployment(APP)
  return { apiVersion: 'v1', kind: 'List', items: [twoReplicas(web), service, budget] }
}

function twoReplicas(deployment: object): object {
  // Parsed anew, so that the parts can be taken out of it by their names.
  const { spec, ...rest } = JSON.parse(JSON.stringify(deployment))
  const { template } = spec
  const [web] = template.spec.containers
  return {
    ...rest,
    spec: {
      ...spec,
      replicas: 2,
      template: {
        ...template,
        spec: {
          ...template.spec,
          terminationGracePeriodSeconds: GRACE_SECONDS,
          affinity: { podAntiAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [apart] } },
          containers: [{ ...web, readinessProbe: { httpGet: { path: '/', port: 8080 }, periodSeconds: 1 } }],
        },
      },
    },
  }
}

const selector = { matchLabels: { app: APP } }
const apart = {
  weight: 100,
  podAffinityTerm: { labelSelector: selector, topologyKey: 'kubernetes.io/hostname' },
}
const service = {
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: APP },
  spec: { selector: { app: APP }, ports: [{ port: 80, targetPort: 8080 }] },
}
const budget = {
  apiVersion: 'policy/v1',
  kind: 'PodDisruptionBudget',
  metadata: { name: APP },
  spec: { minAvailable: 1, selector },
}
