import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { ClusterFacts } from '../cluster-facts.ts'
import { createDriver } from '../create-driver.ts'
import type { ConnectRuntime } from '../cri/runtime-client.ts'
import type { ClusterDriver } from '../driver.ts'
import type { EtcdAccess, EtcdClient } from '../etcd/etcd-client.ts'
import type { SeenMember } from '../etcd/member.ts'
import type { PutToken } from '../k3s/put-token.ts'
import type { TakesToken } from '../k3s/takes-token.ts'
import { type ClusterFiles, createClusterFiles } from '../node/cluster-files.ts'
import { DONE, done, failed } from '../result.ts'
import { createScriptedSystem, type Script, type ScriptedSystem } from './scripted-system.ts'

/** An authority that nobody uses, for tests; its keys are in no file. */
export const AUTHORITY_PEM = `-----BEGIN CERTIFICATE-----
MIIBmjCCAUGgAwIBAgIUZ6TIZd6X7r94mN9rlZwxeXMmX34wCgYIKoZIzj0EAwIw
IjEgMB4GA1UEAwwXazNzLXNlcnZlci1jYSAobWFkZSB1cCkwIBcNMjYxMTI4MTMw
NDQ4WhgPMjEyNjExMDQxMzA0NDhaMCIxIDAeBgNVBAMMF2szcy1zZXJ2ZXItY2Eg
KG1hZGUgdXApMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEfQ7MX9OG2fLk9w0Z
mEY3gq/ac9pD4Rvy0hmuPgUxXp3tT8KRyie63Ru+cQIhjs9iPVMMKCzwG1wzVKyj
F/3jKqNTMFEwHQYDVR0OBBYEFPg4+Iox5p+CuGJ53BXPjCPxOQVAMB8GA1UdIwQY
MBaAFPg4+Iox5p+CuGJ53BXPjCPxOQVAMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZI
zj0EAwIDRwAwRAIge0rVIm8AJI/iD8Dtya/SXNxs58lvx4ZlAuE7exBaolECIDrq
AlrUCJ8+lU61WwaEOcYRy0tzEhXRaPPzmNFc0Imw
-----END CERTIFICATE-----
`

/** A certificate of no authority, for tests; its key is in no file. */
export const LEAF_PEM = `-----BEGIN CERTIFICATE-----
MIIBhDCCASqgAwIBAgIUPNmfJJEQahu5wp8y8x4uaOSFW80wCgYIKoZIzj0EAwIw
GTEXMBUGA1UEAwwObGVhZiAobWFkZSB1cCkwHhcNMjYxMTI4MjMyNDAyWhcNMzYx
MTI1MjMyNDAyWjAZMRcwFQYDVQQDDA5sZWFmIChtYWRlIHVwKTBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABFeYPIEKSfMe/m8+TdRzzJDimGdiIHP9ulJno6IpL/VW
DivbIVGQmc47xO/+aTSHMAOCIi3EXM05Gxg8yfM5AOmjUDBOMB0GA1UdDgQWBBRo
fL5ff2vMCNblZRR1ciOWQyrEsjAfBgNVHSMEGDAWgBRofL5ff2vMCNblZRR1ciOW
QyrEsjAMBgNVHRMBAf8EAjAAMAoGCCqGSM49BAMCA0gAMEUCICQpc5t4FRS72TD7
m3RgFPQG6aG8cLyP13FmLau/Ltb7AiEAi/9Gecew9IYKrJgaIFzBsuYF9gA6XJiG
tI65qPWeKBo=
-----END CERTIFICATE-----
`

/** One that has ended by the fixture's clock; its key is in no file. */
export const ENDED_PEM = `-----BEGIN CERTIFICATE-----
MIIBTjCB9aADAgECAgEBMAoGCCqGSM49BAMCMBoxGDAWBgNVBAMMD2VuZGVkICht
YWRlIHVwKTAeFw0yNTExMjcwMDAwMDBaFw0yNjExMjcwMDAwMDBaMBoxGDAWBgNV
BAMMD2VuZGVkIChtYWRlIHVwKTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABO7a
IFt+NMc1Ord5agRX1BVbpdgK4Fl/zkEbRATAnA704H8NDYCU8vuBIxeyLShuXQ9I
O809FDMtCFzdpYlj2e6jLDAqMAkGA1UdEwQCMAAwHQYDVR0OBBYEFJfan3eMKYIt
yjtvsbGSjNcn0TLUMAoGCCqGSM49BAMCA0gAMEUCIAociZsrfkrSDlsSnHWwslJs
+AWr32fyKE5N/2IxoDPbAiEAlRVtwqcm1irofSLxsuBoYXCyfUUJQ2jaJzQOuSwz
UAQ=
-----END CERTIFICATE-----
`

export const FACTS: ClusterFacts = {
  cluster: 'home',
  distribution: 'k3s',
  role: 'server',
  version: '1.34.3',
  life: 'apart',
  endpoint: undefined,
  apiPort: 6443,
  podCidr: undefined,
  serviceCidr: undefined,
  clusterDomain: 'cluster.local',
  nodeAddress: '10.91.0.10',
  nodeName: 'n1',
  servers: new Map([
    ['n1', '10.91.0.10'],
    ['n2', '10.91.0.11'],
  ]),
  certificateNames: ['n1', 'n2'],
  units: ['k3s.service'],
  profile: undefined,
  programs: [],
  files: [],
  etcdDataDir: '/var/lib/etcd',
}

/** A datastore that answers from a list, and says that it is made up in its errors. */
export function madeUpEtcd(
  members: SeenMember[],
  { keys = [], isDown = () => false }: Pick<MadeUpK3s, 'keys' | 'isDown'> = {},
): EtcdClient {
  const remove = (id: string) => {
    const index = members.findIndex(member => member.id === id)
    if (index >= 0) members.splice(index, 1)
  }
  return {
    members: async () => done([...members]),
    seenMembers: async () => done([...members]),
    status: async () =>
      done({
        memberId: members[0]?.id ?? '',
        version: '3.6.7',
        leaderId: members[0]?.id ?? '0',
        learner: false,
        errors: [],
      }),
    addLearner: async peerUrl => {
      members.push({
        id: 'added',
        name: '',
        peerUrls: [peerUrl],
        clientUrls: [],
        learner: true,
        healthy: false,
      })
      return done([...members])
    },
    promote: async () => DONE,
    remove: async id => {
      remove(id)
      return DONE
    },
    movePeer: async (id, peerUrl) => {
      const index = members.findIndex(member => member.id === id)
      const found = members[index]
      if (!found) return failed('not-found', `no member ${id}`)
      members[index] = { ...found, peerUrls: [peerUrl] }
      return DONE
    },
    keys: async prefix =>
      isDown()
        ? failed('quorum', 'this datastore is down')
        : done(keys.filter(key => key.startsWith(prefix))),
    removeKey: async key => {
      const index = keys.indexOf(key)
      if (index >= 0) keys.splice(index, 1)
      return DONE
    },
    peersAt: async () => done(members.flatMap(({ peerUrls }) => peerUrls)),
  }
}

export interface DriverFixture extends AsyncDisposable {
  readonly root: string
  readonly system: ScriptedSystem
  readonly files: ClusterFiles
  readonly driver: ClusterDriver
  /** Where the driver asked for the datastore. */
  readonly asked: EtcdAccess[]
  put(path: string, text: string): Promise<void>
  /** Lays a snapshot where the driver looks for it, for its own user alone. */
  putSnapshot(name: string, contents: Readonly<Record<string, string>>): Promise<void>
  read(path: string): Promise<string>
}

/** What is no program: of k3s itself, and what runs containers. */
export interface MadeUpK3s {
  /** Of the datastore; what is taken away there is taken away here. */
  readonly keys?: string[]
  readonly isDown?: () => boolean
  readonly putToken?: PutToken
  /** Absent: it takes every token. */
  readonly takesToken?: TakesToken
  /** Absent: nothing answers where a container runtime would. */
  readonly connectRuntime?: ConnectRuntime
}

const refuseToken: PutToken = async () => failed('command', 'this k3s is made up')
const noRuntime: ConnectRuntime = () => {
  const refuse = async () => failed('precondition', 'no container runtime answers here')
  return {
    conditions: refuse,
    sandboxes: refuse,
    containers: refuse,
    stopContainer: refuse,
    removeSandbox: refuse,
  }
}

export async function makeDriver(
  facts: Partial<ClusterFacts>,
  script: Script,
  members: SeenMember[] = [],
  {
    putToken = refuseToken,
    takesToken = async () => done(true),
    connectRuntime = noRuntime,
    ...datastore
  }: MadeUpK3s = {},
): Promise<DriverFixture> {
  const root = await mkdtemp(join(tmpdir(), 'muster-driver-'))
  const system = createScriptedSystem(root, script)
  const files = createClusterFiles({
    stateDir: '/state',
    runDir: '/run/muster-cluster',
    root,
    seal: async (name, bytes) => Buffer.from(`sealed ${name} ${bytes.length}`),
  })
  const asked: EtcdAccess[] = []
  const connectEtcd = (access: EtcdAccess) => {
    asked.push(access)
    return madeUpEtcd(members, datastore)
  }
  const all = { ...FACTS, ...facts }
  const put = async (path: string, text: string) => {
    await mkdir(dirname(`${root}${path}`), { recursive: true })
    await writeFile(`${root}${path}`, text)
  }
  // A machine on which nothing runs, and nothing is mounted.
  await put('/proc/1/cgroup', '0::/init.scope\n')
  await put('/proc/self/mountinfo', '')
  const clock = { now: () => new Date('2026-11-28T12:00:00Z') }
  return {
    root,
    system,
    files,
    asked,
    driver: createDriver({
      system,
      facts: all,
      nodeName: all.nodeName ?? '',
      files,
      connectEtcd,
      connectRuntime,
      putToken,
      takesToken,
      clock,
    }),
    put,
    putSnapshot: async (name, contents) => {
      const folder = `/state/snapshots/${name}`
      await files.makeFolder(folder)
      for (const [path, text] of Object.entries(contents)) await put(`${folder}/${path}`, text)
    },
    read: async path => await readFile(`${root}${path}`, 'utf8'),
    [Symbol.asyncDispose]: async () => await rm(root, { recursive: true }),
  }
}
