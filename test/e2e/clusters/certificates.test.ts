import { create } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  CertificateKind,
  NodeCertificateEndsSchema,
  SoonestEndSchema,
} from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { until } from '../../support/shown.ts'
import { MadeUpFleet } from './made-up-fleet.ts'

// The command and the coordinator are the real programs; the machines speak the real protocol, and their Kubernetes is made up.

let made: MadeUpFleet

beforeAll(async () => {
  made = await MadeUpFleet.start(['s1', 'w1', 'w2'])
  await made.connectAll()
  await made.untilJoined(3)
  await made.writeOperator()
})
afterAll(() => made?.[Symbol.asyncDispose]())

const muster = (...args: string[]) => made.fleet.muster(...args)

describe('certificates that nobody asked about', () => {
  const DAY = 86_400_000
  const health = async () => {
    const { code, stdout } = await muster('health', '-o', 'json')
    const problems: readonly { readonly class: string; readonly host: string; readonly remedy: string }[] =
      JSON.parse(stdout)
    return { code, named: problems.filter(one => one.class === 'cluster-certificate') }
  }
  const ends = (kind: CertificateKind, leftMs: number, path: string) =>
    create(SoonestEndSchema, {
      kind,
      path,
      notBefore: timestampFromMs(Date.now() + leftMs - 365 * DAY),
      notAfter: timestampFromMs(Date.now() + leftMs),
    })

  it('are named by health and status when they end within thirty days, and no more once they are made anew', async () => {
    expect((await health()).named).toEqual([])
    const own = '/var/lib/kubernetes/pki/apiserver.crt'
    const kubelet = ends(CertificateKind.RENEWED, 36 * DAY, '/var/lib/kubelet/pki/kubelet-client-current.pem')
    made.node('s1').certificateEnds = create(NodeCertificateEndsSchema, {
      soonest: [ends(CertificateKind.ORDERED, 29 * DAY, own), kubelet],
    })
    made.node('w1').certificateEnds = create(NodeCertificateEndsSchema, {
      soonest: [ends(CertificateKind.ORDERED, 31 * DAY, own), kubelet],
    })
    const { code, named } = await until('the alarm', async () => {
      const seen = await health()
      return seen.named.length > 0 ? seen : undefined
    })
    expect(code).toBe(1)
    expect(named).toMatchObject([
      {
        host: 's1',
        reason: expect.stringMatching(/^a certificate of cluster home ends at .*apiserver\.crt\)$/),
        remedy: 'muster cluster rotate home certificates --on s1',
      },
    ])
    expect(await made.fleet.ok('status')).toContain('cluster-certificate: a certificate of cluster home ends')
    made.node('s1').certificateEnds = create(NodeCertificateEndsSchema, {
      soonest: [ends(CertificateKind.ORDERED, 365 * DAY, own), kubelet],
    })
    await until('no alarm', async () => ((await health()).named.length === 0 ? true : undefined))
  })

  it('are made anew host by host, and who is passed over is named with the reason', async () => {
    const reason = 'this machine is no server: the kubelet renews its one certificate by itself'
    made.node('w1').refuses.set('rotate', { class: 'unsupported', reason })
    const { code, stdout, stderr } = await muster('cluster', 'rotate', 'home', 'certificates')
    made.node('w1').refuses.clear()
    expect(code).toBe(0)
    expect(stderr).toContain(`w1 is passed over: ${reason}\n`)
    expect(stderr).not.toMatch(/(s1|w2) is passed over/)
    expect(stdout).toMatch(/w2/)
  })
})
