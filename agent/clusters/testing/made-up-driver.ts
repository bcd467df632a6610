import type { JsonObject } from '../../../shared/read-value.ts'
import type { ClusterFacts } from '../../drivers/cluster-facts.ts'
import type { ClusterDriver, Following, Handover, JoinSecret, MintRequest } from '../../drivers/driver.ts'
import type { SeenMember } from '../../drivers/etcd/member.ts'
import type { NodeEvidence } from '../../drivers/kubernetes/read-evidence.ts'
import type { SeenNode } from '../../drivers/kubernetes/see-nodes.ts'
import type { DiskData } from '../../drivers/node/disk-data.ts'
import type { LostDatastore } from '../../drivers/node/lost-datastore.ts'
import { DONE, done, type Failure, failed, type Result } from '../../drivers/result.ts'
import type { Finding } from '../../gates/gate-answer.ts'

/** Who cordons a node without us. */
export const SOMEBODY = 'somebody'

const markOf = (by: string | undefined): string | undefined => (by === SOMEBODY ? undefined : by)

/** What only the machine keeps over a kill of its agent: disk and cluster, as a driver would find them. Made up. */
export class MadeUpMachine {
  facts: ClusterFacts
  data: DiskData = { kind: 'none' }
  begun: string | undefined
  finished: string | undefined
  adopted: string | undefined
  held = false
  lost: LostDatastore | undefined
  stoodDown = false
  left: string | undefined
  readonly authority: string
  /** By their ids. */
  readonly tokens = new Map<string, { readonly operation: string; readonly node: string }>()
  members: SeenMember[] = []
  nodes: SeenNode[] = []
  /** Is a worker of a distribution whose workers fetch their certificates at a start. */
  fetches = false
  shortfalls: { readonly what: 'clock'; readonly reason: string }[] = []
  /** By node who cordoned it: an operation, or SOMEBODY. */
  cordonedBy = new Map<string, string>()
  /** What the API server answers of a node at each look; of others that it is there and renews nothing. */
  readonly evidence = new Map<string, () => Result<NodeEvidence>>()
  readonly snapshots: string[] = []
  readonly applied: unknown[] = []
  /** What a gate's Job comes to, by the gate's name; of any other: that it completed. */
  readonly gateJobs = new Map<
    string,
    (job: JsonObject, signal: AbortSignal | undefined) => Promise<Finding>
  >()
  /** What there is to be done about a token of servers that is made anew; absent: nothing ever. */
  follows: ((handover: Handover) => Following) | undefined
  /** Everything that was done, in order: "found o1". */
  readonly did: string[] = []
  /** What an act comes to instead. */
  readonly fails = new Map<string, Failure>()
  /** Asked before and after each act; what it waits for, the act waits for. */
  onStep: (step: string) => Promise<void> = async () => {}
  readonly joinedWith: JoinSecret[] = []
  machineId: string | undefined = 'a'.repeat(32)
  bootId: string | undefined = 'boot-1'
  kubeletStartedMs: number | undefined
  installedVersion: string | undefined = '1.34.3'
  /** Of its API server, where one runs. */
  runningVersion = '1.34.3'
  minted = 0
  readonly takenAddresses = new Set<string>()
  readonly takenMachineIds = new Set<string>()
  readonly mintedFor: MintRequest[] = []
  /** What a secret is made of; tests look for it where it must not be. */
  readonly secretText = `topsecret${'5'.repeat(20)}`

  constructor(facts: ClusterFacts, authority = 'c'.repeat(64)) {
    this.facts = facts
    this.authority = authority
  }

  member(name: string, change: Partial<SeenMember> = {}): SeenMember {
    const url = `https://${this.facts.servers.get(name) ?? name}:2380`
    return {
      id: `id-${name}`,
      name,
      peerUrls: [url],
      clientUrls: [],
      learner: false,
      healthy: true,
      ...change,
    }
  }

  belongs(): void {
    const { distribution, role } = this.facts
    this.data = { kind: 'cluster', distribution, server: role !== 'worker', authority: this.authority }
    this.adopted = this.authority
  }
}

export const MADE_UP_FACTS: ClusterFacts = {
  cluster: 'home',
  distribution: 'components',
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
  certificateNames: [],
  units: [],
  profile: undefined,
  programs: [],
  files: [],
  etcdDataDir: '/var/lib/etcd',
}

/** A driver of a machine that is made up: it keeps the contract of `ClusterDriver`, and does nothing to anything real. */
export function madeUpDriver(machine: MadeUpMachine): ClusterDriver {
  const { facts } = machine
  const act = async <T>(
    name: string,
    words: readonly string[],
    work: () => Result<T>,
  ): Promise<Result<T>> => {
    await machine.onStep(`before ${name}`)
    const fails = machine.fails.get(name)
    machine.did.push([name, ...words].join(' '))
    const result = fails ?? work()
    await machine.onStep(`after ${name}`)
    return result
  }
  const begin = (operation: string): Failure | undefined => {
    if (machine.begun === operation) return undefined
    if (machine.data.kind !== 'none' || machine.begun !== undefined)
      return failed('data-present', `data, begun by ${machine.begun ?? 'nobody'}`)
    machine.begun = operation
    return undefined
  }
  const finish = (operation: string) => {
    machine.belongs()
    machine.finished = operation
    machine.begun = undefined
    return done({ authority: machine.authority })
  }
  return {
    distribution: facts.distribution,
    facts,
    ...(machine.follows && {
      followToken: async handover => {
        await machine.onStep('before follow')
        return machine.follows?.(handover) ?? { kind: 'rest' }
      },
    }),
    nodeName: facts.nodeName ?? '',
    checkPreconditions: async () => machine.shortfalls,
    readState: async () => {
      await machine.onStep('before read')
      const { data, begun, held, adopted, lost, stoodDown } = machine
      const runs = data.kind === 'cluster' && data.server && !lost && !stoodDown
      return {
        data,
        held,
        adopted,
        stoodDown,
        unfinished: begun,
        units: new Map(),
        ...(lost && { lost }),
        installedVersion: machine.installedVersion,
        address: facts.nodeAddress,
        machineId: machine.machineId,
        bootId: machine.bootId,
        kubeletStartedMs: machine.kubeletStartedMs,
        runningVersion: runs ? machine.runningVersion : undefined,
      }
    },
    found: async operation =>
      await act('found', [operation], () => {
        if (machine.finished === operation) return done({ authority: machine.authority })
        return begin(operation) ?? finish(operation)
      }),
    join: async (operation, secret) =>
      await act('join', [operation], () => {
        if (machine.finished === operation) return done({ authority: machine.authority })
        const refused = begin(operation)
        if (refused) return refused
        machine.joinedWith.push(secret)
        return finish(operation)
      }),
    adopt: async authority =>
      await act('adopt', [authority], () => {
        if (machine.data.kind !== 'cluster') return failed('precondition', 'no data')
        if (machine.data.authority !== authority) return failed('data-present', 'of another authority')
        machine.adopted = authority
        return done({ authority })
      }),
    leave: async operation =>
      await act('leave', [operation], () => {
        machine.left = operation
        return DONE
      }),
    standDown: async restoredMs =>
      await act('stand-down', [String(restoredMs)], () => {
        machine.stoodDown = true
        return DONE
      }),
    wipe: async () =>
      await act('wipe', [], () => {
        machine.data = { kind: 'none' }
        machine.lost = undefined
        machine.stoodDown = false
        machine.begun = undefined
        machine.finished = undefined
        machine.adopted = undefined
        return DONE
      }),
    dropSnapshots: async () =>
      await act('drop-snapshots', [], () => {
        machine.snapshots.length = 0
        return DONE
      }),
    hold: async held =>
      await act('hold', [String(held)], () => {
        machine.held = held
        return DONE
      }),
    restart: async () => await act('restart', [], () => DONE),
    ...(machine.fetches && { renewByRestart: async () => await act('renew-by-restart', [], () => DONE) }),
    certificates: async () =>
      await act('certificates', [], () =>
        done([
          {
            path: '/pki/ca.crt',
            subject: 'CN=ca',
            beganMs: 1_700_000_000_000,
            endsMs: 1_800_000_000_000,
            authority: true,
          },
        ]),
      ),
    cluster: {
      mint: async request =>
        await act('mint', [request.operation, request.node], () => {
          for (const [id, token] of machine.tokens)
            if (token.operation === request.operation) machine.tokens.delete(id)
          machine.minted += 1
          machine.mintedFor.push(request)
          const tokenId = `t${String(machine.minted).padStart(5, '0')}`
          machine.tokens.set(tokenId, request)
          const secret: JoinSecret = {
            distribution: facts.distribution,
            role: request.role,
            server: '10.91.0.10:6443',
            token: `${tokenId}.${machine.secretText.slice(0, 16)}`,
            agentToken: undefined,
            files: new Map([['ca.key', machine.secretText]]),
            initialCluster: undefined,
          }
          return done({ secret, tokenId })
        }),
      listTokens: async () =>
        await act('list', [], () =>
          done(
            [...machine.tokens].map(([id, { operation, node }]) => ({
              id,
              expiresMs: 0,
              description: `muster ${operation} for ${node}`,
            })),
          ),
        ),
      deleteToken: async id =>
        await act('delete', [id], () => {
          machine.tokens.delete(id)
          return DONE
        }),
      checkJoiner: async ({ node, address, machineId }) =>
        done(
          machine.takenAddresses.has(address)
            ? [{ what: 'address' as const, reason: `${address} is the address of another node` }]
            : machineId !== undefined && machine.takenMachineIds.has(machineId)
              ? [{ what: 'machine-id' as const, reason: 'another node has the same machine id' }]
              : machine.nodes.some(({ name }) => name === node)
                ? [{ what: 'host-name' as const, reason: `${node} is there` }]
                : [],
        ),
      isReady: async () => true,
      nodes: async () => await act('nodes', [], () => done(machine.nodes)),
      readEvidence: async node =>
        await act('evidence', [node], () => {
          const seen = machine.evidence.get(node)
          if (seen) return seen()
          return done({
            node: {
              name: node,
              uid: 'u',
              resourceVersion: '1',
              unschedulable: machine.cordonedBy.has(node),
              cordonedBy: markOf(machine.cordonedBy.get(node)),
              ready: undefined,
              kubeletVersion: 'v1.34.3',
              bootId: '',
              machineId: '',
              addresses: [],
              deleting: false,
            },
            renewedMs: 1,
          })
        }),
      proveServer: async version => done({ version, members: machine.members }),
      cordon: async (node, operation, takesOver) =>
        await act('cordon', [node, operation], () => {
          const by = machine.cordonedBy.get(node) ?? operation
          const after = by === takesOver ? operation : by
          machine.cordonedBy.set(node, after)
          return done({ by: markOf(after) })
        }),
      drain: async (node, _policy, { signal }) =>
        await act('drain', [node], () =>
          signal?.aborted ? failed('cancelled', 'no longer drained') : done({ evicted: 3 }),
        ),
      uncordon: async (node, operation) =>
        await act('uncordon', [node, operation], () => {
          if (machine.cordonedBy.get(node) !== operation)
            return failed('not-ours', 'somebody else cordoned it')
          machine.cordonedBy.delete(node)
          return DONE
        }),
      members: async () => await act('members', [], () => done(machine.members)),
      whyNotStop: async () => await act('whyNotStop', [], () => done(undefined)),
      removeNode: async node => await act('remove', [node], () => DONE),
      snapshot: async name =>
        await act('snapshot', [name], () => {
          machine.snapshots.push(name)
          return done({ name, path: `/snapshots/${name}`, bytes: 5, madeMs: 1_790_000_000_000 })
        }),
      listSnapshots: async () =>
        done(
          machine.snapshots.map((name, at) => ({ name, path: `/snapshots/${name}`, bytes: 5, madeMs: at })),
        ),
      restore: async ({ operation, name, authority }) =>
        await act('restore', [name], () => {
          if (!machine.snapshots.includes(name)) return failed('not-found', `no snapshot ${name}`)
          if (authority !== undefined && authority !== machine.authority)
            return failed('precondition', `the snapshot is of ${machine.authority}`)
          const refused = machine.data.kind === 'none' ? begin(operation) : undefined
          return refused ?? finish(operation)
        }),
      kubeconfig: async server =>
        await act('kubeconfig', [server], () =>
          done(`server: https://${server}\nkey: ${machine.secretText}\n`),
        ),
      rotateTokens: async () => await act('rotate-tokens', [], () => done('restart every server')),
      rotateCertificates: async () => await act('rotate-certificates', [], () => DONE),
      applyManifests: async set =>
        await act('apply', [set.name, String(set.objects.length)], () => {
          machine.applied.push(...set.objects)
          return set.objects.length === 0 && !set.allowEmpty
            ? failed('precondition', 'the set is empty')
            : done({ applied: set.objects.length, pruned: [], kept: [] })
        }),
      runGateJob: async ({ name, deadlineMs }, job, signal) => {
        machine.did.push(`gate ${name} ${deadlineMs}`)
        const found = await machine.gateJobs.get(name)?.(job, signal)
        return found ?? { verdict: 'healthy', reason: 'completed' }
      },
    },
  }
}
