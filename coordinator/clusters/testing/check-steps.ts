import type { ClusterRecord } from '../cluster-record.ts'
import { isServer } from '../cluster-record.ts'
import type { Step } from '../steps.ts'
import { type Box, type Cluster, isHealthy, serverVersions, type World } from './simulated-world.ts'

/** What a planner may not know yet: an observation counts for 90 s, and takes some time on its way. */
const GRACE_MS = 100_000

/** Holds each step against the truth, by other means than those it was decided with. */
export function checkSteps(world: World, record: ClusterRecord, steps: readonly Step[]): void {
  const complain = (text: string) => world.violations.push(text)
  let changes = runningChanges(world)
  for (const step of steps) {
    const asked =
      'minter' in step
        ? step.minter
        : 'server' in step
          ? step.server
          : 'executor' in step
            ? step.executor
            : ''
    // Before anybody hears of the restore, a token of before may be asked for where it was minted.
    const isUnheard = step.kind === 'delete-token' && record.setBackAt === 0
    if (world.boxes.get(asked)?.fork && !isUnheard)
      complain(`asks a server of before: ${asked} for ${step.kind}`)
    for (const machine of startsWith(record, step))
      if ((world.boxes.get(machine)?.occupiedUntil ?? 0) > world.now)
        complain(`begins with one that is occupied: ${machine} for ${step.kind}`)
    switch (step.kind) {
      case 'found':
        if (record.founding?.state === 'founded') complain(`founded again: ${step.machine}`)
        break
      case 'mint': {
        const wanted = world.hosts.find(({ host }) => host === step.host)
        if (
          wanted?.machine !== step.machine ||
          wanted.role !== step.role ||
          world.boxes.get(step.machine)?.gone
        ) {
          complain(
            `wrong machine: a ${step.role} token for ${step.machine}, ${step.host} is ${wanted?.machine}`,
          )
        }
        const installed = world.boxes.get(step.machine)?.installed ?? ''
        for (const cluster of world.clusters.values()) {
          const older = serverVersions(world, cluster).find(version => version < installed)
          if (!isServer(step.role) && older !== undefined)
            complain(`too new: ${step.host} has ${installed}, a server runs ${older}`)
        }
        if (!isServer(step.role)) break
        if (changes.length > 0) complain(`two changes: ${step.host} joins while ${changes.join(', ')}`)
        changes = [...changes, step.host]
        for (const cluster of world.clusters.values()) {
          const ill = cluster.members.filter(each => each.learner || !isWell(world, cluster, each))
          if (ill.length > 0)
            complain(`joins ill quorum: ${step.host} while ${ill.map(m => m.name).join(', ')}`)
        }
        break
      }
      case 'clear':
      case 'leave': {
        const leave =
          step.kind === 'leave' ? record.leaves.find(each => each.request === step.request) : undefined
        const host = step.kind === 'clear' ? step.host : (leave?.host ?? '')
        const votes = [...world.clusters.values()].some(({ members }) =>
          members.some(({ name }) => name === host),
        )
        if (step.kind === 'leave' && !votes) break
        if (changes.length > 0) complain(`two changes: ${host} goes while ${changes.join(', ')}`)
        changes = [...changes, host]
        for (const cluster of world.clusters.values()) {
          const own = cluster.members.find(({ name }) => name === host)
          if (!own) continue
          if (step.kind === 'clear' && !own.learner && isHealthy(world, cluster, own))
            complain(`clears ${host}, which lives`)
          const left = cluster.members.filter(each => !each.learner && each !== own)
          const well = left.filter(each => isWell(world, cluster, each)).length
          if (well * 2 <= left.length)
            complain(`quorum lost: ${host} goes, ${well} of ${left.length} are well`)
        }
        break
      }
      case 'forget-join':
        for (const { tokens } of world.clusters.values()) {
          const token = tokens.get(step.operation)
          if (token?.works && world.now < token.expiresMs)
            complain(`forgets a token that works: ${step.operation}`)
        }
        break
      case 'end-join':
      case 'delete-token':
      case 'forget-clear':
      case 'retry-leave':
      case 'forget-leave':
      case 'move-first':
        break
    }
  }
}

/** With whom something new begins by a step; what ends or is taken back is for everybody. */
function startsWith({ left }: ClusterRecord, step: Step): readonly string[] {
  switch (step.kind) {
    case 'found':
      return [step.machine]
    case 'mint':
      return [step.machine, step.minter]
    case 'clear':
      // Of a machine that left only the Node is taken away, without it.
      return left.get(step.host) === step.machine ? [step.server] : [step.machine, step.server]
    case 'leave':
      return [step.executor]
    case 'end-join':
    case 'delete-token':
    case 'forget-join':
    case 'forget-clear':
    case 'retry-leave':
    case 'forget-leave':
    case 'move-first':
      return []
  }
}

/** What changes the servers at this moment, in truth. */
export function runningChanges(world: World): string[] {
  const running: string[] = []
  for (const box of world.boxes.values()) {
    // Of what there was before, or without its datastore, a server changes nothing any more.
    if (box.gone || box.fork || box.data.kind === 'lost') continue
    for (const [operation, { intent, state, sealed }] of box.journal) {
      if (state !== 'running') continue
      const worker = world.hosts.some(
        each => 'host' in intent && each.host === intent.host && each.role === 'worker',
      )
      if (intent.kind === 'clear' || (intent.kind === 'leave' && !worker))
        running.push(`${box.id} ${intent.kind} ${intent.host}`)
      if (intent.kind !== 'join' || !sealed || !isServer(sealed.role)) continue
      // With a token that was deleted it can only fail.
      const works = world.clusters.get(sealed.authority)?.tokens.get(operation)?.works
      if (works || world.distribution !== 'k0s') running.push(`${box.id} join`)
    }
  }
  return running
}

function isWell(world: World, cluster: Cluster, member: Cluster['members'][number]): boolean {
  const box = world.boxes.get(member.machine)
  return isHealthy(world, cluster, member) || (box !== undefined && world.now - illSince(box) < GRACE_MS)
}

function illSince(box: Box): number {
  return Math.max(box.downSince, box.wipedAt)
}
