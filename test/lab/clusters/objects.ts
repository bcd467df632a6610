/** A web server of one replica from an image that every lab machine has; `host`: the only one whose node it may run on. */
export const webDeployment = (name: string, host?: string): object => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name },
  spec: {
    replicas: 1,
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name } },
      spec: {
        // It ignores SIGTERM.
        terminationGracePeriodSeconds: 1,
        ...(host !== undefined && { nodeSelector: { 'kubernetes.io/hostname': host } }),
        containers: [{ name: 'web', image: 'docker.io/lab/web:1', imagePullPolicy: 'Never' }],
      },
    },
  },
})
/** What it answers on port 8080. */
export const WEB_ANSWER = 'muster lab\n'
