import type { Clock } from '../../shared/clock.ts'
import { EASY_CERTS } from '../../shared/kubernetes/distributions.ts'
import { readObject, textAt } from '../../shared/read-value.ts'
import type { System } from '../system/system.ts'
import { type ClusterFacts, isServerRole, isWorkerRole, NODE_ADDRESS } from './cluster-facts.ts'
import type { ConnectRuntime } from './cri/runtime-client.ts'
import type { ClusterActs, ClusterDriver, DriverState, Joined } from './driver.ts'
import type { ConnectEtcd, EtcdClient } from './etcd/etcd-client.ts'
import type { PutToken } from './k3s/put-token.ts'
import type { TakesToken } from './k3s/takes-token.ts'
import type { AskApi, Kubectl } from './kubernetes/kubectl.ts'
import { bareVersion } from './kubernetes/kubelet-version.ts'
import type { WaitOptions } from './kubernetes/wait-options.ts'
import { authorityIdIn } from './node/certificates.ts'
import type { ClusterFiles } from './node/cluster-files.ts'
import { isDataOf, readDiskData } from './node/disk-data.ts'
import { describeLost, readLostDatastore } from './node/lost-datastore.ts'
import { checkMachine, type Needs, readMachineId, type Shortfall } from './node/preconditions.ts'
import { lastWords, readUnits, type ServiceState, startUnits, stopUnits, waitFor } from './node/services.ts'
import { redact } from './redact.ts'
import { DONE, done, type Failure, type FailureClass, failed, type Result } from './result.ts'
import type { Programs } from './run-program.ts'
import { snapshotsIn } from './snapshot-folder.ts'

/** What drivers are made of; nothing in them knows whether the machine is real. */
export interface DriverDeps {
  readonly system: System
  readonly facts: ClusterFacts
  readonly nodeName: string
  readonly files: ClusterFiles
  readonly connectEtcd: ConnectEtcd
  readonly connectRuntime: ConnectRuntime
  /** Absent: the API server is asked by way of kubectl alone. */
  readonly askApi?: AskApi | undefined
  /** k3s: how its own server is asked for another token. */
  readonly putToken: PutToken
  /** k3s: whether its own server lets in who shows a token. */
  readonly takesToken: TakesToken
  readonly clock: Clock
}

/** What one distribution says of itself. */
export interface Distributed {
  readonly deps: DriverDeps
  readonly programs: Programs
  readonly kubectl: Kubectl
  readonly etcd: () => EtcdClient
  readonly needs: Omit<Needs, 'nodeName' | 'address' | 'otherAddresses' | 'programs'>
  readonly neededPrograms: readonly string[]
  /** Why no driver can keep a node of this configuration, and what to do; undefined: it can. */
  readonly whyUnfit?: string | undefined
  /** The same, where files of the machine say it. */
  readonly readUnfit?: () => Promise<string | undefined>
  /** The installed version, as its program says it. */
  readonly installedVersion: (signal?: AbortSignal) => Promise<string | undefined>
  readonly authorityFiles: readonly string[]
  /** Where a server's etcd has what makes it a member. */
  readonly datastore: string
  /** Where more than its units is to be stopped. */
  readonly stop?: (signal?: AbortSignal) => Promise<Result<void>>
  /** What is put right while Kubernetes is down, before it is started. */
  readonly beforeStart?: () => Promise<void>
}

/** Stops Kubernetes on this machine; pods that are none of its own parts go on. */
export async function stopKubernetes(of: Distributed, signal?: AbortSignal): Promise<Result<void>> {
  return of.stop ? await of.stop(signal) : await stopUnits(of.deps.system, of.deps.facts.units, signal)
}

/** The address of this node; undefined: it has not been found out. */
export async function ownAddress({ system, facts }: DriverDeps): Promise<string | undefined> {
  if (facts.nodeAddress !== undefined) return facts.nodeAddress
  const reading = await system.readFile(NODE_ADDRESS, 256)
  const text = reading.kind === 'file' ? reading.bytes.toString('utf8').trim() : ''
  return text === '' ? undefined : text
}

/** An address as it stands in a URL. */
export const hostOf = (address: string): string => (address.includes(':') ? `[${address}]` : address)

export async function checkPreconditions(of: Distributed): Promise<readonly Shortfall[]> {
  const { deps, needs, neededPrograms } = of
  const { system, facts, nodeName } = deps
  const missing: string[] = []
  for (const name of neededPrograms) {
    const found = await Promise.all(
      of.programs.folders.map(async folder => await system.exists(`${folder}/${name}`)),
    )
    if (!found.some(({ kind }) => kind === 'present')) missing.push(name)
  }
  const address = await ownAddress(deps)
  const otherAddresses = [...facts.servers].flatMap(([name, at]) =>
    name === nodeName || at === undefined ? [] : [at],
  )
  const ofMachine = await checkMachine(system, {
    ...needs,
    programs: missing,
    nodeName,
    address,
    otherAddresses,
  })
  const why = of.whyUnfit ?? (await of.readUnfit?.())
  const unfit = why === undefined ? [] : [{ what: 'datastore', reason: why } as const]
  const shortfalls = [...unfit, ...ofMachine]
  const data = await readDiskData(system)
  if (data.kind === 'none' || (await deps.files.readMark('begun')) !== undefined) return shortfalls
  const reason =
    data.kind === 'unreadable' ? data.reason : `data of a cluster of ${data.distribution} lies on the disk`
  return [...shortfalls, { what: 'data', reason: `${reason}: adopt that cluster, or wipe the machine` }]
}

export async function readState(of: Distributed, signal?: AbortSignal): Promise<DriverState> {
  const { system, facts, files } = of.deps
  const data = await readDiskData(system)
  const lost = await readLostDatastore(system, files, facts, of.datastore, data)
  const stoodDown = (await files.readMark('stood-down')) !== undefined
  // An API server that outlives its datastore answers this and hangs in all that is asked after it; nothing it says counts.
  const serves = isServerRole(facts.role) && lost === undefined && !stoodDown
  // At once: a server is asked for its state every moment, and a rollout waits for the answer.
  const [states, installed, running] = await Promise.all([
    readUnits(system, facts.units, signal),
    of.installedVersion(signal),
    serves ? runningVersion(of.kubectl, signal) : undefined,
  ])
  const units = states.kind === 'done' ? states.value : new Map<string, ServiceState>()
  return {
    data: typeof lost === 'string' ? { kind: 'unreadable', reason: lost } : data,
    ...(typeof lost === 'object' && { lost }),
    unfinished: await files.readMark('begun'),
    held: (await files.readMark('hold')) !== undefined,
    stoodDown,
    adopted: await files.readMark('ours'),
    units,
    address: await ownAddress(of.deps),
    machineId: await readMachineId(system),
    bootId: await readBootId(system),
    kubeletStartedMs: kubeletStarted(facts, units, of.deps.clock.now().getTime()),
    installedVersion: installed,
    runningVersion: running,
  }
}

async function readBootId(system: System): Promise<string | undefined> {
  const reading = await system.readFile('/proc/sys/kernel/random/boot_id', 64)
  const text = reading.kind === 'file' ? reading.bytes.toString('utf8').trim() : ''
  return text === '' ? undefined : text
}

/**
 * When the unit that runs the kubelet was started, by the clock as it goes now: a clock that was set since the start, as after a
 * boot without a battery, would make the start look older or newer than it is.
 */
function kubeletStarted(
  { units: names }: ClusterFacts,
  units: ReadonlyMap<string, ServiceState>,
  nowMs: number,
): number | undefined {
  // Where it is no unit of its own, one program runs all of Kubernetes.
  const unit = units.get(names.includes('kubelet.service') ? 'kubelet.service' : (names.at(-1) ?? ''))
  if (unit?.active !== 'active' || unit.startedMs === undefined) return undefined
  const agoMs = Number(process.hrtime.bigint() / 1_000_000n) - unit.startedMs
  return agoMs < 0 ? undefined : Math.ceil(nowMs - agoMs)
}

/** Of the API server; undefined: it does not answer. */
export async function runningVersion(kubectl: Kubectl, signal?: AbortSignal): Promise<string | undefined> {
  const answer = await kubectl.getText('/version', signal)
  const said = answer.kind === 'done' ? textAt(readObject(answer.value), 'gitVersion') : undefined
  return said === undefined ? undefined : bareVersion(said)
}

/**
 * Says durably that an operation founds or joins here. Refused where data of a cluster lies that this operation did not
 * begin: nobody founds or joins over it; nor over what says that this server had a datastore, unless a snapshot is to take its place.
 */
export async function begin(
  { deps: { system, files, facts }, datastore }: Distributed,
  operation: string,
  over?: 'lost-datastore',
): Promise<Failure | undefined> {
  const begun = await files.readMark('begun')
  if (begun === operation) return undefined
  const data = await readDiskData(system)
  if (data.kind !== 'none') {
    const what =
      data.kind === 'unreadable'
        ? data.reason
        : `data of a cluster of ${data.distribution}, authority ${data.authority}`
    return failed(
      'data-present',
      `${what}${begun === undefined ? '' : `, begun by operation ${begun}`}: cluster ${facts.cluster} is not founded or joined over it; adopt it, or wipe the machine`,
    )
  }
  const lost = await readLostDatastore(system, files, facts, datastore, data)
  if (typeof lost === 'string') return failed('unreadable', lost)
  if (lost && over === undefined) return failed('data-present', describeLost(lost))
  if ((await files.readMark('hold')) !== undefined) {
    return failed('precondition', 'Kubernetes is held down on this machine: let it go first')
  }
  await files.mark('begun', operation)
  return undefined
}

/** What an operation that founds or joins came to when it was over before; undefined: it was not. */
export async function whatBecameOf(of: Distributed, operation: string): Promise<Result<Joined> | undefined> {
  const { system, files, facts } = of.deps
  if ((await files.readMark('finished')) !== operation) return undefined
  if (!isDataOf(await readDiskData(system), facts.distribution)) return undefined
  await files.unmark('begun')
  return await readJoined(of)
}

/** Says durably that founding or joining is over. A server is a member from here on. */
export async function finish(of: Distributed, operation: string): Promise<Result<Joined>> {
  const joined = await readJoined(of)
  if (joined.kind === 'failed') return joined
  const { files, facts } = of.deps
  if (isServerRole(facts.role)) await files.mark('member')
  await files.mark('ours', joined.value.authority)
  await files.mark('finished', operation)
  await files.unmark('begun')
  return joined
}

async function readJoined(of: Distributed): Promise<Result<Joined>> {
  const authority = await ownAuthority(of)
  return authority === undefined
    ? failed('unreadable', `no authority that can be read in ${of.authorityFiles.join(' or ')}`)
    : done({ authority })
}

/** Of the cluster whose data lies here; undefined: none can be read. */
export async function ownAuthority({ deps, authorityFiles }: Distributed): Promise<string | undefined> {
  for (const path of authorityFiles) {
    const bytes = await deps.files.read(path)
    if (bytes) return authorityIdIn(bytes)
  }
  return undefined
}

/**
 * Takes in a node of a running cluster as it is: what its units need at the next boot is put where they look for it, and
 * nothing is started, stopped or restarted. Refused where the data is of another authority, or unfinished.
 */
export async function adoptData(
  of: Distributed,
  authority: string,
  giveBack: () => Promise<Result<void>>,
): Promise<Result<Joined>> {
  const { system, files, facts } = of.deps
  if (of.whyUnfit !== undefined) return failed('precondition', of.whyUnfit)
  const data = await readDiskData(system)
  if (data.kind === 'unreadable') return failed('unreadable', data.reason)
  if (data.kind === 'none') return failed('precondition', 'no data of any cluster is on this disk')
  if (data.authority !== authority) {
    return failed('data-present', `the data here is of authority ${data.authority}, not of ${authority}`)
  }
  if (data.distribution === EASY_CERTS) {
    return failed(
      'unsupported',
      "the certificates of this node are nixpkgs' own (easyCerts), which let nobody else join and end within days without their issuer: such a cluster is not adopted; found one beside it, and move what runs there",
    )
  }
  if (!isDataOf(data, facts.distribution)) {
    return failed(
      'precondition',
      `the data here is of ${data.distribution}, the configuration says ${facts.distribution}`,
    )
  }
  if (data.server !== isServerRole(facts.role)) {
    const shown = data.server ? 'a server' : 'a worker'
    return failed('precondition', `the data here is that of ${shown}, the configuration says ${facts.role}`)
  }
  const begun = await files.readMark('begun')
  if (begun !== undefined)
    return failed(
      'precondition',
      `operation ${begun} is not finished here: that one is gone on with, not adopted`,
    )
  const given = await giveBack()
  if (given.kind === 'failed') return given
  if (data.server) await files.mark('member')
  await files.setReady()
  await files.mark('ours', authority)
  return done({ authority })
}

/** Gives a secret out to the units, and starts them. */
export async function startWithFiles(
  { deps, beforeStart }: Distributed,
  signal?: AbortSignal,
): Promise<Result<void>> {
  await deps.files.setReady()
  await beforeStart?.()
  return await startUnits(deps.system, deps.facts.units, signal)
}

/** Waits for a look to succeed, and says why the unit does not come, where it says so itself. */
export async function untilUp(
  { deps }: Distributed,
  what: string,
  options: WaitOptions,
  look: () => Promise<boolean>,
  /** What it says so of is waited for all the same: it is mended when the unit is up. */
  passOver: readonly FailureClass[] = [],
): Promise<Result<void>> {
  const { system, facts } = deps
  const [unit = ''] = facts.units
  const since = Math.floor(deps.clock.now().getTime() / 1000)
  let refusal: Failure | undefined
  let looks = 0
  const up = await waitFor(
    options.deadlineMs,
    options.signal,
    async () => {
      if (await look()) return true
      const said = explainWords(await wordsSince(system, unit, since))
      refusal = said && passOver.includes(said.class) ? undefined : said
      looks += 1
      if (!refusal && looks % LOOKS_BEFORE_RESTART === 0) await restartFailed(system, facts.units)
      return refusal ? false : undefined
    },
    options.everyMs ?? 2_000,
  )
  if (up === true) return DONE
  if (refusal) return refusal
  if (options.signal?.aborted) return failed('cancelled', `${what}: no longer waited for`)
  const [blamed, shown] = await findBlamed(system, facts.units)
  const said = await lastWords(system, blamed)
  return failed(
    'timed-out',
    `${what} did not come within ${options.deadlineMs / 1000} s: ${shown}; it said: ${said}`,
  )
}

/** systemd would wait two minutes before it starts k0s again, whatever it was that is mended meanwhile. */
const LOOKS_BEFORE_RESTART = 8

async function restartFailed(system: System, units: readonly string[]): Promise<void> {
  const states = await readUnits(system, units)
  if (states.kind === 'failed') return
  for (const [unit, { active, result }] of states.value) {
    const waits = active === 'failed' || (active === 'activating' && result !== 'success' && result !== '')
    // Whether it can be restarted shows at the next look.
    if (waits) await system.run('systemctl', ['restart', '--no-block', unit], { deadlineMs: 20_000 })
  }
}

/** The first unit that is not active, or the last one, which needs all the others. */
async function findBlamed(
  system: System,
  units: readonly string[],
): Promise<readonly [unit: string, shown: string]> {
  const states = await readUnits(system, units)
  if (states.kind === 'failed') return [units.at(-1) ?? '', states.reason]
  const blamed = [...states.value].find(([, { active }]) => active !== 'active') ?? [...states.value].at(-1)
  return blamed ? [blamed[0], describeUnit(...blamed)] : ['', 'no unit']
}

function describeUnit(unit: string, { active, heldByCondition, result }: ServiceState): string {
  if (heldByCondition)
    return `${unit} is ${active}, since a condition of it does not hold (systemctl status ${unit})`
  return `${unit} is ${active}${result === '' || result === 'success' ? '' : ` (${result})`}`
}

async function wordsSince(system: System, unit: string, sinceSeconds: number): Promise<string> {
  const args = ['--unit', unit, '--no-pager', '--output=cat', `--since=@${sinceSeconds}`, '--lines=200']
  const said = await system.run('journalctl', args, { deadlineMs: 10_000 })
  return said.stdout
}

const KUBELET_REFUSED =
  /cannot create certificate signing request: (?:Unauthorized|.*certificate signed by unknown authority)|"Failed to connect to apiserver" err=".*has asked for the client to provide credentials/g
const REFUSALS = 4
/** k3s since April 2024, and what a server says of it when it has given up. One that has just started refuses once what it takes then. */
const K3S_REFUSED = /server is not ready: failed to retrieve configuration from server: not authorized/g
const K3S_REFUSALS = 2
const K3S_SERVER_REFUSED = /failed to bootstrap cluster data: (?:not authorized|forbidden)\b/

/** What a distribution says that no waiting mends. */
export function explainWords(text: string): Failure | undefined {
  if (/Node password rejected|duplicate hostname/i.test(text)) {
    return failed(
      'name-taken',
      'the cluster has a node of this name with another password: take that node out first',
    )
  }
  if (/duplicate node name found, please use a unique name/i.test(text)) {
    return failed(
      'name-taken',
      'the datastore has a member of this name that is another one: take that node out first',
    )
  }
  const mismatched = /critical configuration mismatched: ([\w-]+)/.exec(text)?.[1]
  if (mismatched !== undefined) {
    return failed(
      'precondition',
      `this server would start with another ${mismatched} than the servers of the cluster have: give it the same`,
    )
  }
  if (/bootstrap data already found and encrypted with different token/i.test(text)) {
    return failed(
      'token-refused',
      'the datastore is under another token of servers than this one starts with: it was made anew meanwhile',
    )
  }
  if (
    /\b401 Unauthorized\b|token CA hash does not match|wrong token type|failed to decode join token|invalid bootstrap token/i.test(
      text,
    ) ||
    (text.match(K3S_REFUSED) ?? []).length >= K3S_REFUSALS ||
    K3S_SERVER_REFUSED.test(text) ||
    // k0s, when it has given up. Elsewhere these words may be of a moment.
    /failed to join existing cluster via .*has asked for the client to provide credentials|failed to bootstrap client configuration: .*\bUnauthorized\b/i.test(
      text,
    ) ||
    // A kubelet, or k0s in its place; a server that has not heard of a new token yet says it too, once or twice.
    (text.match(KUBELET_REFUSED) ?? []).length >= REFUSALS
  ) {
    return failed(
      'token-refused',
      'the cluster does not take the token: it ended, was deleted, or is of another cluster; have another one minted',
    )
  }
  const config = /failed to load (?:node )?config: .*/.exec(text)?.[0]
  if (config !== undefined) return failed('precondition', redact(config))
  if (/cgroup v1 is not supported/i.test(text)) {
    return failed(
      'precondition',
      'this version does not run on control groups of the first version: boot with the unified hierarchy',
    )
  }
  return undefined
}

/** What every distribution does to its own machine in the same way. */
export function nodeActs(of: Distributed): Pick<ClusterDriver, 'dropSnapshots' | 'hold' | 'restart'> {
  const { system, files, facts } = of.deps
  return {
    dropSnapshots: async () => {
      await files.remove(snapshotsIn(files))
      return DONE
    },
    hold: async (held, signal) => {
      if (!held) {
        await files.unmark('hold')
        return DONE
      }
      await files.mark('hold')
      return await stopKubernetes(of, signal)
    },
    restart: async signal => {
      const stopped = await stopKubernetes(of, signal)
      if (stopped.kind === 'failed') return stopped
      await of.beforeStart?.()
      return await startUnits(system, facts.units, signal)
    },
  }
}

export type SharedActs = Pick<
  ClusterActs,
  | 'checkJoiner'
  | 'isReady'
  | 'nodes'
  | 'readEvidence'
  | 'proveServer'
  | 'cordon'
  | 'drain'
  | 'uncordon'
  | 'members'
  | 'whyNotStop'
  | 'applyManifests'
  | 'runGateJob'
>

export const runsWorkloads = (facts: ClusterFacts): boolean =>
  isWorkerRole(facts.role) || facts.units.includes('kubelet.service') || facts.distribution === 'k3s'
