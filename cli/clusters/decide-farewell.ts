import type { ClusterAct } from '../../shared/gen/muster/v1/cluster_pb.ts'
import { millisOf } from '../../shared/time.ts'
import { exitForAct } from './act-state.ts'

/** The steps of a farewell, in their order. */
export const FAREWELL_STEPS = ['drain', 'leave', 'wipe', 'evict'] as const
export type FarewellStep = (typeof FAREWELL_STEPS)[number]

/** What is known of a host that is to go, read anew before each step. */
export interface FarewellFacts {
  readonly host: string
  /** Its machine as far as it can still be evicted; undefined: none is bound, or it was sent away. */
  readonly machine: { readonly id: string; readonly online: boolean } | undefined
  /** Undefined: it belongs to no cluster. */
  readonly member:
    | {
        readonly cluster: string
        readonly joined: boolean
        /** Servers of some distributions run no pods, and have no node that could be drained. */
        readonly hasNode: boolean
      }
    | undefined
  /**
   * A drain ended well since this farewell was begun or taken up again. One from before says nothing of what runs there now, nor does
   * a cordon: pods are counted anew.
   */
  readonly drained: boolean
  /** What was asked of it in its cluster, newest first. */
  readonly acts: readonly ClusterAct[]
}

export interface FarewellWish {
  /** The machine is gone for good. */
  readonly dead: boolean
  readonly wipe: boolean
  readonly drain: boolean
}

export interface FarewellLine {
  readonly step: FarewellStep
  readonly state: 'done' | 'needless' | 'left'
  readonly why: string
}

export type Farewell =
  | {
      readonly kind: 'go'
      readonly lines: readonly FarewellLine[]
      /** What is to be done now; undefined: all of it is done. */
      readonly next: FarewellStep | undefined
      /** An act for that step is under way already: it is followed, and not asked for again. */
      readonly follow: ClusterAct | undefined
    }
  | { readonly kind: 'refused'; readonly reason: string }

/**
 * What of a farewell is done and what comes next, by what can be seen alone: whoever runs it again after it was cut off, on
 * whatever machine, goes on where it was.
 */
export function decideFarewell(facts: FarewellFacts, wish: FarewellWish): Farewell {
  const { host, machine, member } = facts
  const gone = hasLeft(facts)
  if (!gone && member && machine?.online && wish.dead) {
    return {
      kind: 'refused',
      reason: `${host}: its machine is connected, so it is not gone: without --dead it leaves by itself; stop it first if it must not`,
    }
  }
  if (!gone && member && !wish.dead && !machine?.online) {
    return {
      kind: 'refused',
      reason: `${host}: ${machine ? 'its machine is not connected' : 'no machine is bound to it'}: connect it, or say --dead if it is gone for good`,
    }
  }
  if (wish.wipe && machine && !machine.online && !wiped(facts)) {
    return {
      kind: 'refused',
      reason: `${host}: its machine is not connected, so nothing can be wiped there: connect it, or go on without --wipe`,
    }
  }
  const lines = [
    drainLine(facts, wish, gone),
    leaveLine(facts, gone),
    wipeLine(facts, wish),
    machine
      ? line('evict', 'left', 'takes its identity from it')
      : line('evict', 'done', 'it has no identity here any more'),
  ]
  const next = lines.find(({ state }) => state === 'left')?.step
  const follow = facts.acts.find(({ act, ended }) => act === next && !ended)
  return { kind: 'go', lines, next, follow }
}

function drainLine(facts: FarewellFacts, wish: FarewellWish, gone: boolean): FarewellLine {
  const { member } = facts
  if (!member) return line('drain', 'needless', 'it belongs to no cluster')
  if (gone) return line('drain', 'needless', 'it has left')
  if (wish.dead) return line('drain', 'needless', 'the machine is gone')
  if (!wish.drain) return line('drain', 'needless', 'by --no-drain')
  if (!member.joined) return line('drain', 'needless', 'it has not joined')
  if (!member.hasNode) return line('drain', 'needless', 'no pods run there')
  return facts.drained
    ? line('drain', 'done', 'nothing that could be moved is left there')
    : line('drain', 'left', 'moves its pods off')
}

function leaveLine({ member }: FarewellFacts, gone: boolean): FarewellLine {
  if (!member) return line('leave', 'needless', 'it belongs to no cluster')
  return gone
    ? line('leave', 'done', 'its node is deleted')
    : line('leave', 'left', 'takes it out of the datastore and deletes its node')
}

function wipeLine(facts: FarewellFacts, wish: FarewellWish): FarewellLine {
  if (!wish.wipe) return line('wipe', 'needless', 'without --wipe')
  if (!facts.member) return line('wipe', 'needless', 'it belongs to no cluster')
  if (wiped(facts)) return line('wipe', 'done', '')
  if (!facts.machine) return line('wipe', 'needless', 'its machine is out of reach')
  return line('wipe', 'left', 'takes what is left of the cluster off its disk, copies of the datastore too')
}

/** It left, and neither came back nor was let back since. */
function hasLeft({ member, acts }: FarewellFacts): boolean {
  if (!member || member.joined) return false
  return newestWayOut(acts) === 'leave'
}

/** What a host was told last of going and coming back, by its acts, newest first; undefined: nothing. */
export function newestWayOut(acts: readonly ClusterAct[]): 'leave' | 'return' | undefined {
  const newest = acts.find(act => (act.act === 'leave' || act.act === 'return') && isDoneAct(act))?.act
  return newest === 'leave' || newest === 'return' ? newest : undefined
}

function wiped({ acts }: FarewellFacts): boolean {
  // One that left copies of the datastore where they were says so.
  const isWhole = ({ act, reason }: ClusterAct) => act !== 'wipe' || reason === ''
  const at = (word: string) =>
    millisOf(acts.find(act => act.act === word && isDoneAct(act) && isWhole(act))?.ended) ?? 0
  return at('wipe') > 0 && at('wipe') >= at('leave')
}

function isDoneAct(act: ClusterAct): boolean {
  return act.ended !== undefined && exitForAct(act) === 'ok'
}

function line(step: FarewellStep, state: FarewellLine['state'], why: string): FarewellLine {
  return { step, state, why }
}
