import { constants } from 'node:fs'
import { open, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { hasCode, reasonOf } from '../../shared/errors.ts'
import { escapeText } from '../../shared/escape.ts'
import type { JobsProbe } from '../../shared/gen/muster/v1/probe_pb.ts'
import type { JobGate, KnownCluster } from '../../shared/revision/clusters.ts'
import { MAX_GATE_JOB_BYTES } from '../../shared/revision/safety-bounds.ts'
import { isServerRole } from '../drivers/cluster-facts.ts'
import type { DriverReading } from '../drivers/create-driver.ts'
import type { ClusterDriver } from '../drivers/driver.ts'
import type { Finding } from '../gates/gate-answer.ts'
import { type ActDeps, whyNotOurs } from './acts/act.ts'
import { VERB_OF } from './decide-order.ts'

export interface JobGateDeps extends Pick<ActDeps, 'identity' | 'manifests' | 'fetchTree'> {
  readonly allow: readonly string[]
  /** Why the node obeys nothing; undefined: it does. */
  readonly held: () => string | undefined
  readonly openDriver: () => Promise<DriverReading>
}

export interface JobGateAnswer extends Pick<Finding, 'verdict' | 'reason'> {
  /** The gate's. */
  readonly name: string
}

/**
 * Runs the Jobs that the signed manifest names as gates of this server's cluster, all at once, and answers in the order of
 * their names. Throws where this machine may not run them, or cannot know which they are; what goes wrong with one of them
 * is the answer of that one.
 */
export async function runJobGates(
  deps: JobGateDeps,
  asked: Pick<JobsProbe, 'cluster' | 'revision' | 'manifestDigest'>,
  signal: AbortSignal,
): Promise<readonly JobGateAnswer[]> {
  const driver = await openServer(deps, asked.cluster, signal)
  const reading = await deps.manifests.find(asked.revision, asked.manifestDigest, signal)
  if (reading.kind === 'unknown') throw new Error(`no signed manifest to judge by: ${reading.reason}`)
  const { manifest } = reading
  const named = manifest.clusters.get(asked.cluster)
  if (!named) throw new Error(`revision ${manifest.number} names no cluster ${asked.cluster}`)
  if (!isServerOf(named, deps.identity.id, driver.nodeName))
    throw new Error(`this machine is no server of ${asked.cluster} by revision ${manifest.number}`)
  if (named.gates.length === 0) return []
  const { treeDigest, treeLength } = manifest.manifest
  const tree = await deps.fetchTree(
    { number: manifest.number, treeDigest, treeLength: Number(treeLength) },
    signal,
  )
  if (tree.kind === 'failed') throw new Error(`${tree.class}: ${tree.reason}`)
  // All are read before any is run: other trees may take this one's place meanwhile.
  const files = await Promise.all(
    named.gates.map(async gate => ({ gate, file: await readInTree(tree.folder, gate.path) })),
  )
  return await Promise.all(
    files.map(async ({ gate, file }) => ({ name: gate.name, ...(await runOne(driver, gate, file, signal)) })),
  )
}

/** By the same rules as an order to bring manifests, which makes objects of the signed tree in the cluster, too. */
async function openServer(
  { allow, held, openDriver }: JobGateDeps,
  cluster: string,
  signal: AbortSignal,
): Promise<ClusterDriver> {
  const verb = VERB_OF.manifests
  if (verb !== undefined && !allow.includes(verb))
    throw new Error(
      `this node may not be asked to run Jobs: option \`allow\` of its configuration has no "${verb}"`,
    )
  const why = held()
  if (why !== undefined) throw new Error(`this node runs no Job: ${why}`)
  const reading = await openDriver()
  if (reading.kind === 'none') throw new Error('this machine has no part in any cluster')
  if (reading.kind !== 'driver') throw new Error(reading.reason)
  const { driver } = reading
  const { role, cluster: own } = driver.facts
  if (!isServerRole(role)) throw new Error(`this machine is a ${role}: only a server can run Jobs`)
  if (own !== cluster) throw new Error(`this machine is a server of ${own}, not of ${cluster}`)
  const notOurs = whyNotOurs(await driver.readState(signal))
  if (notOurs) throw new Error(notOurs.reason)
  return driver
}

/** By its key, or by its name where the manifest binds the host to none. */
function isServerOf({ members }: KnownCluster, machine: string, host: string): boolean {
  const own =
    members.find(member => member.machine === machine) ??
    members.find(member => member.machine === undefined && member.host === host)
  return own !== undefined && own.role !== 'worker'
}

type TreeFile =
  | { readonly kind: 'file'; readonly text: string }
  | { readonly kind: 'unreadable'; readonly reason: string }

async function runOne(
  driver: ClusterDriver,
  gate: JobGate,
  file: TreeFile,
  signal: AbortSignal,
): Promise<Pick<Finding, 'verdict' | 'reason'>> {
  try {
    if (file.kind === 'unreadable') return unavailable(file.reason)
    // Loaded when it is needed: an agent that is idle holds no reader of YAML.
    const { readGateJob } = await import('../../shared/kubernetes/read-gate-job.ts')
    const read = readGateJob(gate.path, file.text)
    if (read.kind === 'refused') return unavailable(read.reason)
    const { verdict, reason } = await driver.cluster.runGateJob(gate, read.job, signal)
    return { verdict, reason }
  } catch (error) {
    // The others have something to say all the same.
    return unavailable(`could not be asked: ${reasonOf(error)}`)
  }
}

const MAX_REASON_CHARS = 500

const unavailable = (reason: string) =>
  ({ verdict: 'unavailable', reason: escapeText(reason).slice(0, MAX_REASON_CHARS) }) as const

/** A regular file of the tree. A link is none, wherever in the path it is: it may lead out of what was signed. */
async function readInTree(folder: string, path: string): Promise<TreeFile> {
  const unreadable = (reason: string) => ({ kind: 'unreadable', reason: `${path}: ${reason}` }) as const
  try {
    const whole = join(folder, path)
    if ((await realpath(whole)) !== join(await realpath(folder), path))
      return unreadable('is a link or behind one; put the file itself into the fleet directory')
    // Whatever else it is, opening it waits for nobody.
    await using file = await open(whole, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    const stat = await file.stat()
    if (!stat.isFile()) return unreadable('is no file of the fleet directory')
    if (stat.size > MAX_GATE_JOB_BYTES) return unreadable(`longer than ${MAX_GATE_JOB_BYTES} bytes`)
    return { kind: 'file', text: await file.readFile('utf8') }
  } catch (error) {
    return unreadable(
      hasCode(error, 'ENOENT') ? 'is not in the fleet directory of this revision' : reasonOf(error),
    )
  }
}
