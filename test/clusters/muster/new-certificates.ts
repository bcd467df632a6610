import { createHash } from 'node:crypto'
import { expect } from 'vitest'
import { CLUSTER, type ClusterFleet } from './cluster-fleet.ts'
import type { Host } from './rendered-system.ts'

/** The certificate that each distribution's API server shows. */
const SERVING: Readonly<Record<ClusterFleet['distribution'], string>> = {
  components: '/var/lib/kubernetes/pki/apiserver.crt',
  kubernetes: '/var/lib/kubernetes/pki/apiserver.crt',
  k3s: '/var/lib/rancher/k3s/server/tls/serving-kube-apiserver.crt',
  k0s: '/var/lib/k0s/pki/server.crt',
}

interface End {
  readonly host: string
  readonly path: string
  readonly notAfter: string
}

/** Has one server's certificates made anew by an operator, and none of another's; the server serves and is a voter again. */
export async function expectNewCertificates(
  made: ClusterFleet,
  { of, not }: { readonly of: Host; readonly not: Host },
): Promise<void> {
  const path = SERVING[made.distribution]
  const digest = async (host: Host) =>
    createHash('sha256')
      .update(await made.machine(host).readFile(path))
      .digest('hex')
  const endOf = async (host: Host) => {
    const told = await made.ok('cluster', 'certificates', CLUSTER, '--on', host, '-o', 'json')
    // Parsed output of the command; what a test compares shows what is not as expected.
    const ends = JSON.parse(told) as readonly End[]
    return Date.parse(ends.find(end => end.host === host && end.path === path)?.notAfter ?? '')
  }
  const before = [await digest(of), await digest(not)]
  const ended = await endOf(of)
  await made.ok('cluster', 'rotate', CLUSTER, 'certificates', '--on', of)
  expect(await digest(of)).not.toBe(before[0])
  expect(await digest(not)).toBe(before[1])
  expect(await endOf(of)).toBeGreaterThan(ended)
  await made.untilVoters(3)
  const ready = ['curl', '-s', '-k', '-m', '10', `https://${made.machine(of).address}:6443/readyz`]
  expect(await made.machine(not).ok(ready)).toMatch(/^ok$|Unauthorized/)
}
