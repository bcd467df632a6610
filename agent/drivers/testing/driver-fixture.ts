import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { ClusterFacts } from '../cluster-facts.ts'
import { createDriver } from '../create-driver.ts'
import type { ClusterDriver } from '../driver.ts'
import type { EtcdAccess, EtcdClient } from '../etcd/etcd-client.ts'
import type { SeenMember } from '../etcd/member.ts'
import { type ClusterFiles, createClusterFiles } from '../node/cluster-files.ts'
import { DONE, done } from '../result.ts'
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
  etcdDataDir: '/var/lib/etcd',
}

/** A datastore that answers from a list, and says that it is made up in its errors. */
export function madeUpEtcd(members: SeenMember[]): EtcdClient {
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
    moveLeader: async () => DONE,
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
  read(path: string): Promise<string>
}

export async function makeDriver(
  facts: Partial<ClusterFacts>,
  script: Script,
  members: SeenMember[] = [],
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
    return madeUpEtcd(members)
  }
  const all = { ...FACTS, ...facts }
  const clock = { now: () => new Date('2026-11-28T12:00:00Z') }
  return {
    root,
    system,
    files,
    asked,
    driver: createDriver({ system, facts: all, nodeName: all.nodeName ?? '', files, connectEtcd, clock }),
    put: async (path, text) => {
      await mkdir(dirname(`${root}${path}`), { recursive: true })
      await writeFile(`${root}${path}`, text)
    },
    read: async path => await readFile(`${root}${path}`, 'utf8'),
    [Symbol.asyncDispose]: async () => await rm(root, { recursive: true }),
  }
}
