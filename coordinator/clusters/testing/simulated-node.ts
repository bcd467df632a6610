import { isServer, type MemberRole } from '../cluster-record.ts'
import type { ClusterIntent } from '../orders-for.ts'
import {
  type Box,
  clusterOf,
  hasQuorum,
  isHealthy,
  type Report,
  type Sealed,
  send,
  serverVersions,
  type Work,
  type World,
} from './simulated-world.ts'

const MAX_SKEW_MS = 5 * 60_000

/** What an agent with a journal does with an order; it may come late, twice, or after what it belongs to is over. */
export function takeOrder(world: World, box: Box, intent: ClusterIntent, sealed: Sealed | undefined): void {
  const { operation } = intent
  const known = box.journal.get(operation)
  const fail = () => end(box, intent, sealed, false)
  if (!known && box.occupiedUntil > world.now && !['stop', 'delete'].includes(intent.kind)) {
    if (box.held && (intent.kind !== 'join' || sealed)) fail()
    return
  }
  switch (intent.kind) {
    case 'found':
      if (known) {
        const isDone = known.state === 'done' && box.data.kind === 'cluster'
        if (known.state !== 'running')
          reportEnd(box, operation, isDone, isDone && box.data.kind === 'cluster' ? box.data.authority : '')
        return
      }
      if (box.data.kind !== 'none' && box.data.kind !== 'unfinished') {
        fail()
        return
      }
      if (Math.abs(box.skewMs) > MAX_SKEW_MS) {
        fail()
        return
      }
      box.data = { kind: 'unfinished', operation }
      begin(world, box, intent, undefined)
      return
    case 'mint': {
      if (known) return
      const wanted = world.hosts.find(({ host }) => host === intent.host)
      // The signed manifest says who the host is; the order alone says nothing.
      if (wanted?.machine !== intent.joiner || wanted.role !== intent.role) {
        fail()
        return
      }
      if (world.now + box.skewMs >= intent.expiresMs || !clusterOf(world, box)) {
        fail()
        return
      }
      begin(world, box, intent, undefined)
      return
    }
    case 'join':
      if (known || !sealed) return
      if (sealed.recipient !== box.id || sealed.operation !== operation) {
        fail()
        return
      }
      if (world.now + box.skewMs >= sealed.expiresMs) {
        fail()
        return
      }
      if (box.data.kind !== 'none' && box.data.kind !== 'unfinished') {
        fail()
        return
      }
      // No clock and no coordinator is asked: what its minter saw is in the secret.
      if (box.installed > sealed.version || (isServer(sealed.role) && box.installed < sealed.version)) {
        fail()
        return
      }
      box.data = { kind: 'unfinished', operation }
      report(box, { operation, report: { kind: 'received' }, sealed: undefined })
      begin(world, box, intent, sealed)
      return
    case 'stop':
      // What runs goes on, and says at its end how it went.
      if (!known) end(box, intent, sealed, false)
      else if (known.state !== 'running') reportEnd(box, operation, known.state === 'done')
      return
    case 'delete': {
      const cluster = clusterOf(world, box)
      if (!cluster || !hasQuorum(world, cluster)) return
      const token = cluster.tokens.get(operation)
      if (token) token.works = false
      if (known) known.state = 'barred'
      else box.journal.set(operation, { intent, sealed: undefined, state: 'barred', left: 0, stage: 0 })
      box.outbox.delete(`${operation} minted`)
      report(box, { operation, report: { kind: 'deleted' }, sealed: undefined })
      return
    }
    case 'clear':
    case 'leave':
      if (known) {
        if (known.state !== 'running') reportEnd(box, operation, known.state === 'done')
        return
      }
      begin(world, box, intent, undefined)
      return
  }
}

/** A kubelet that starts makes its Node where there is none, with the certificate that it has; one that runs does not. */
export function register(world: World, box: Box): void {
  const cluster = clusterOf(world, box)
  if (!cluster || box.gone || box.fork || !hasKubelet(roleOf(world, box))) return
  if (!hasQuorum(world, cluster) || cluster.nodes.has(box.host)) return
  cluster.nodes.set(box.host, { uid: `u-${box.id}-${world.now}`, machine: box.id })
}

/** A tick of work on everything that runs here. */
export function work(world: World, box: Box): void {
  for (const [operation, job] of box.journal) {
    if (job.state !== 'running') continue
    job.left -= 1
    if (job.left > 0) continue
    if (world.faulty && world.random.chance(0.15)) failAt(world, box, job)
    else step(world, box, operation, job)
  }
  for (const each of box.outbox.values()) {
    if (world.random.chance(0.4)) send(world, { at: 0, to: '', from: box.id, kind: 'report', report: each })
  }
}

function step(world: World, box: Box, operation: string, job: Work): void {
  const { intent, sealed } = job
  // A server without its datastore says so, or runs out of time.
  if (box.data.kind === 'lost') {
    job.state = 'failed'
    reportEnd(box, operation, false)
    return
  }
  switch (intent.kind) {
    case 'found':
      foundCluster(world, box, job)
      return
    case 'mint': {
      const cluster = clusterOf(world, box)
      if (!cluster || !hasQuorum(world, cluster)) {
        job.left = 1
        return
      }
      const { joiner: recipient, role, expiresMs } = intent
      cluster.tokens.set(operation, { recipient, role, works: true, expiresMs: expiresMs - box.skewMs })
      job.state = 'done'
      const version = [box.runs, ...serverVersions(world, cluster)].reduce((a, b) => (a < b ? a : b))
      const secret = { operation, recipient, role, authority: cluster.authority, expiresMs, version }
      report(box, { operation, report: { kind: 'minted', tokenId: `t-${operation}` }, sealed: secret })
      return
    }
    case 'join':
      if (sealed) joinCluster(world, box, job, sealed)
      return
    case 'clear':
      clearNode(world, box, job, intent.host)
      return
    case 'leave':
      leaveCluster(world, box, job, intent.host, intent.dead)
      return
    case 'stop':
    case 'delete':
      return
  }
}

function foundCluster(world: World, box: Box, job: Work): void {
  const { intent } = job
  world.foundings += 1
  const authority = `ca-${world.foundings}`
  for (const other of world.boxes.values()) {
    if (other.data.kind === 'cluster' && !other.data.authority.startsWith('foreign')) {
      world.violations.push(`two founders: ${box.id} founds while ${other.id} has ${other.data.authority}`)
    }
  }
  const members = [{ name: box.host, machine: box.id, learner: false }]
  const nodes = new Map(
    hasKubelet(roleOf(world, box)) ? [[box.host, { uid: `u-${box.id}`, machine: box.id }]] : [],
  )
  world.clusters.set(authority, { authority, members, nodes, tokens: new Map() })
  box.data = { kind: 'cluster', authority, distribution: world.distribution, server: true }
  box.runs = box.installed
  job.state = 'done'
  reportEnd(box, intent.operation, true, authority)
}

function joinCluster(world: World, box: Box, job: Work, sealed: Sealed): void {
  const cluster = world.clusters.get(sealed.authority)
  const token = cluster?.tokens.get(sealed.operation)
  const fail = () => {
    job.state = 'failed'
    reportEnd(box, sealed.operation, false)
  }
  if (!cluster || !token) {
    fail()
    return
  }
  // Where a server's secret is good for ever, deleting it only ends what the coordinator knows of.
  const works =
    (token.works && world.now < token.expiresMs) || (isServer(token.role) && world.distribution !== 'k0s')
  if (!works) {
    fail()
    return
  }
  if (token.recipient !== box.id || token.role !== sealed.role) {
    world.violations.push(`wrong machine: ${box.id} uses a token minted for ${token.recipient}`)
  }
  if (!hasQuorum(world, cluster)) {
    job.left = 2
    return
  }
  if (isServer(sealed.role)) {
    const own = cluster.members.find(({ machine }) => machine === box.id)
    if (!own) {
      if (cluster.members.some(({ name }) => name === box.host)) {
        fail()
        return
      }
      if (cluster.members.some(({ learner }) => learner)) {
        fail()
        return
      }
      cluster.members.push({ name: box.host, machine: box.id, learner: true })
      job.left = 2
      return
    }
    if (own.learner) {
      own.learner = false
      box.runs = box.installed
      box.data = {
        kind: 'cluster',
        authority: cluster.authority,
        distribution: world.distribution,
        server: true,
      }
      if (!hasQuorum(world, cluster)) world.violations.push(`quorum lost as ${box.id} became a voter`)
    }
  }
  if (hasKubelet(sealed.role)) {
    const node = cluster.nodes.get(box.host)
    // The node password of the machine that had the name before.
    if (node && node.machine !== box.id) {
      fail()
      return
    }
    cluster.nodes.set(box.host, { uid: `u-${box.id}`, machine: box.id })
  }
  box.data = {
    kind: 'cluster',
    authority: cluster.authority,
    distribution: world.distribution,
    server: isServer(sealed.role),
  }
  box.runs = box.installed
  const older = serverVersions(world, cluster).find(version => version < box.runs)
  if (!isServer(sealed.role) && older !== undefined)
    world.violations.push(`too new: ${box.id} runs ${box.runs} beside a server with ${older}`)
  job.state = 'done'
  reportEnd(box, sealed.operation, true, cluster.authority)
}

function clearNode(world: World, box: Box, job: Work, host: string): void {
  const cluster = clusterOf(world, box)
  if (!cluster || !hasQuorum(world, cluster)) {
    job.left = 2
    return
  }
  const member = cluster.members.find(({ name }) => name === host)
  const refused =
    member && ((!member.learner && isHealthy(world, cluster, member)) || !hasQuorum(world, cluster, host))
  if (!refused) {
    removeMember(world, cluster, host)
    cluster.nodes.delete(host)
  }
  job.state = refused ? 'failed' : 'done'
  reportEnd(box, job.intent.operation, !refused)
}

function leaveCluster(world: World, box: Box, job: Work, host: string, dead: boolean): void {
  const cluster = clusterOf(world, box)
  if (!cluster) {
    job.state = 'failed'
    reportEnd(box, job.intent.operation, false)
    return
  }
  if (!hasQuorum(world, cluster)) {
    job.left = 2
    return
  }
  const member = cluster.members.find(({ name }) => name === host)
  const refused = member && !hasQuorum(world, cluster, host)
  if (!refused) {
    removeMember(world, cluster, host)
    // A worker has no right to delete its own Node.
    if (dead || member) cluster.nodes.delete(host)
    if (!dead) box.data = { kind: 'none' }
  }
  job.state = refused ? 'failed' : 'done'
  reportEnd(box, job.intent.operation, !refused)
}

function removeMember(world: World, cluster: ReturnType<typeof clusterOf> & object, host: string): void {
  const at = cluster.members.findIndex(({ name }) => name === host)
  if (at < 0) return
  cluster.members.splice(at, 1)
  if (!hasQuorum(world, cluster)) world.violations.push(`quorum lost as member ${host} was taken out`)
}

/** A step that does not work out leaves what it left. */
function failAt(world: World, box: Box, job: Work): void {
  const { kind, operation } = job.intent
  if (kind === 'found' && world.random.chance(0.5)) box.data = { kind: 'none' }
  // A server that votes already is in; its join can no longer fail half-way.
  if (kind === 'join' && box.data.kind === 'cluster') {
    job.left = 1
    return
  }
  if (kind === 'join' && world.random.chance(0.5)) box.data = { kind: 'none' }
  job.state = 'failed'
  reportEnd(box, operation, false)
}

function begin(world: World, box: Box, intent: ClusterIntent, sealed: Sealed | undefined): void {
  const left = 1 + world.random.below(world.faulty ? 12 : 3)
  box.journal.set(intent.operation, { intent, sealed, state: 'running', left, stage: 0 })
}

function end(box: Box, intent: ClusterIntent, sealed: Sealed | undefined, done: boolean): void {
  box.journal.set(intent.operation, { intent, sealed, state: done ? 'done' : 'failed', left: 0, stage: 0 })
  reportEnd(box, intent.operation, done)
}

function reportEnd(box: Box, operation: string, done: boolean, authority = ''): void {
  report(box, { operation, report: { kind: 'ended', done, authority }, sealed: undefined })
}

function report(box: Box, each: Report): void {
  box.outbox.set(`${each.operation} ${each.report.kind}`, each)
}

function roleOf(world: World, box: Box): MemberRole {
  return world.hosts.find(({ host }) => host === box.host)?.role ?? 'server'
}

function hasKubelet(role: MemberRole): boolean {
  return role !== 'server'
}
