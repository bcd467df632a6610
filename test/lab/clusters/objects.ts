/** A web server of one replica from an image that every lab machine has. */
export const webDeployment = (name: string): object => ({
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
        containers: [{ name: 'web', image: 'docker.io/lab/web:1', imagePullPolicy: 'Never' }],
      },
    },
  },
})
/** What it answers on port 8080. */
export const WEB_ANSWER = 'muster lab\n'
