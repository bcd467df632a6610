import { beforeAll, describe, expect, it } from 'vitest'
import { createAuthority, openAuthority } from '../../../shared/x509/authority.ts'
import { issueCertificate } from '../../../shared/x509/issue-certificate.ts'
import { keyId } from '../../../shared/x509/key-id.ts'
import { generateMachineKey } from '../../../shared/x509/machine-key.ts'
import type { JoinSecret } from '../driver.ts'
import { AUTHORITY_PEM, type DriverFixture, makeDriver } from '../testing/driver-fixture.ts'
import { member } from '../testing/made-up-objects.ts'
import type { Script } from '../testing/scripted-system.ts'
import { AUTHORITY_FILES } from './pki.ts'

const WAIT = { deadlineMs: 20_000, everyMs: 20 }
const ROOT = '/var/lib/kubernetes'
const TOKEN = 'abcdef.0123456789abcdef'
const UNITS = ['etcd.service', 'kube-apiserver.service', 'kubelet.service']
const joiner = {
  distribution: 'components',
  role: 'server+worker',
  units: UNITS,
  nodeName: 'n2',
  nodeAddress: '10.91.0.11',
  endpoint: '10.91.0.99',
} as const
const stopped = 'ActiveState=inactive\nConditionResult=yes\nConditionTimestampMonotonic=5\nResult=success\n'
const script = (more: Script = []): Script => [
  ...more,
  [/^systemctl show/, stopped],
  [/^systemctl/, ''],
  [/^journalctl/, ''],
  [/^kube-apiserver --version/, 'Kubernetes v1.34.3\n'],
  [/^kubeadm init phase/, ''],
  [/--raw \/readyz/, 'ok'],
]
const secret: JoinSecret = {
  distribution: 'components',
  role: 'server',
  server: '10.91.0.10:6443',
  token: TOKEN,
  agentToken: undefined,
  files: new Map(AUTHORITY_FILES.map(name => [name, name.endsWith('.crt') ? AUTHORITY_PEM : 'k'])),
  initialCluster: 'n1=https://10.91.0.10:2380,n2=https://10.91.0.11:2380',
}
const members = () =>
  ['10', '11'].map((end, at) => member(`n${at + 1}`, { peerUrls: [`https://10.91.0.${end}:2380`] }))

let serving = ''
let elsewhere = ''
beforeAll(async () => {
  const notBefore = new Date(Date.now() - 86_400_000)
  const dates = { notBefore, notAfter: new Date(notBefore.getTime() + 3_650 * 86_400_000) }
  const authority = openAuthority(await createAuthority({ ...dates, bits: 2048 }))
  const { publicKeyDer } = await generateMachineKey(2048)
  const issue = (value: string) =>
    issueCertificate({
      authority,
      subject: { kind: 'server', id: keyId(publicKeyDer) },
      publicKeyDer,
      notBefore,
      notAfter: new Date(notBefore.getTime() + 31 * 86_400_000),
      sans: [{ kind: 'ip', value }],
    }).certificatePem
  serving = issue('10.91.0.11')
  elsewhere = issue('10.91.0.10')
})

/** What a kubelet is given once its own server answers, it takes. */
async function letIn(made: DriverFixture): Promise<string> {
  await expect.poll(async () => await made.files.get('bootstrap-kubelet.conf')).toContain(TOKEN)
  const given = (await made.files.get('bootstrap-kubelet.conf')) ?? ''
  await made.put(`${ROOT}/kubelet.conf`, 'x')
  await made.put('/var/lib/kubelet/pki/kubelet-client-current.pem', '')
  return given
}

describe('the kubelet of a server', () => {
  it('joins by way of the API server beside it, once that answers, whoever minted its token', async () => {
    let ready = false
    await using made = await makeDriver(
      joiner,
      script([[/--raw \/readyz/, () => (ready ? 'ok' : { exitCode: 1, stderr: 'refused' })]]),
      members(),
    )
    const joined = made.driver.join('op', secret, WAIT)
    await expect.poll(() => made.system.ran.some(({ line }) => line.includes('/readyz'))).toBe(true)
    expect((await made.files.get('bootstrap-kubelet.conf')) ?? '').not.toContain(TOKEN)
    ready = true
    expect(await letIn(made)).toContain('"server":"https://10.91.0.11:6443"')
    expect(await joined).toMatchObject({ kind: 'done' })
    const spent = (await made.files.get('bootstrap-kubelet.conf')) ?? ''
    expect(spent).toContain('"server":"https://10.91.0.11:6443"')
    expect(spent).not.toContain(TOKEN)
    expect(made.system.ran.map(({ line }) => line)).toContain('systemctl restart --no-block kubelet.service')
  })

  it('has a file to start static pods with before that, which opens nothing', async () => {
    const units = ['etcd.service', 'muster-static-pods.service', 'kubelet.service']
    await using made = await makeDriver({ ...joiner, units }, script(), members())
    const before: string[] = []
    const given = made.driver.join('op', secret, WAIT)
    await expect
      .poll(async () => {
        before.push((await made.files.get('bootstrap-kubelet.conf')) ?? '')
        return before.at(-1)
      })
      .toContain('10.91.0.11:6443')
    await letIn(made)
    expect(await given).toMatchObject({ kind: 'done' })
  })

  it.each([
    ['by another server', 'https://10.91.0.10:6443'],
    ['by the endpoint', 'https://10.91.0.99:6443'],
  ])('is turned to it before the next start when it joined %s', async (_, server) => {
    await using made = await makeDriver(joiner, script())
    const conf = (at: string) => `apiVersion: v1\nclusters:\n- cluster:\n    server: ${at}\n  name: c\n`
    await made.put(`${ROOT}/kubelet.conf`, conf(server))
    await made.put(`${ROOT}/pki/apiserver.crt`, elsewhere)
    expect(await made.driver.restart()).toMatchObject({ kind: 'done' })
    // A certificate that does not name this node would be refused.
    expect(await made.read(`${ROOT}/kubelet.conf`)).toBe(conf(server))
    await made.put(`${ROOT}/pki/apiserver.crt`, serving)
    expect(await made.driver.restart()).toMatchObject({ kind: 'done' })
    expect(await made.read(`${ROOT}/kubelet.conf`)).toBe(conf('https://10.91.0.11:6443'))
  })

  it('of a worker stays with what it has', async () => {
    await using made = await makeDriver({ ...joiner, role: 'worker', units: ['kubelet.service'] }, script())
    await made.put(`${ROOT}/kubelet.conf`, 'clusters:\n- cluster:\n    server: https://10.91.0.10:6443\n')
    await made.put(`${ROOT}/pki/apiserver.crt`, serving)
    expect(await made.driver.restart()).toMatchObject({ kind: 'done' })
    expect(await made.read(`${ROOT}/kubelet.conf`)).toContain('10.91.0.10')
  })
})
