import { agentTokenAfter, writesToStartWith } from '../agent-token.ts'
import { type FollowStep, type FollowView, nextFollowStep } from '../decide-follow.ts'
import { isBetween, whyNoJoiners } from '../decide-joiners.ts'
import {
  nextRotationStep,
  type OtherServer,
  type RotationStep,
  type RotationView,
} from '../decide-rotation.ts'
import type { Under, Which } from '../token-pair.ts'

/** The decisions that are tried; a test may put a broken one in their place. */
export interface Planners {
  readonly rotate: (view: RotationView) => RotationStep
  readonly follow: (view: FollowView) => FollowStep
  readonly writes: typeof writesToStartWith
  readonly joiners: typeof whyNoJoiners
  readonly between: typeof isBetween
}
export const REAL: Planners = {
  rotate: nextRotationStep,
  follow: nextFollowStep,
  writes: writesToStartWith,
  joiners: whyNoJoiners,
  between: isBetween,
}

/** Times are in steps of the world. */
const KEEP = 25
const WAIT = 15
/** k3s answers, or has given up, within so many. */
const PUT = 4
const QUIET = 8
const OVER = 20
const FORGET = 60
const ACT = 60

interface Pair {
  readonly id: string
  readonly operation: string
  readonly old: string
  readonly next: string
  readonly agents: string
  readonly until: number
  readonly asked: boolean
}

/** What a k3s was started with, and takes until it ends. */
interface Started {
  readonly token: string
  readonly agents: string
}

interface Offer {
  readonly id: string
  readonly until: number
  cancelled: boolean
  readonly sealed: Map<string, Pair>
  readonly keys: Set<string>
  readonly kept: Map<string, string>
  readonly taken: Map<string, string>
}

/** An order that is being obeyed; only its operation is on the disk. */
interface Act {
  readonly operation: string
  begun: number
  unanswered: number | undefined
  taking: number | undefined
}

interface Machine {
  readonly name: string
  on: boolean
  /** Its k3s runs. */
  up: boolean
  refused: boolean
  token: string
  /** That of agents, beside it. */
  agents: string
  started: Started
  /** What k3s has written down for joining servers. */
  printed: string
  pair: Pair | undefined
  rotated: string
  act: Act | undefined
}

export type WorldEvent =
  | {
      readonly kind: 'look'
      readonly at: number
      readonly lost: 'no' | 'call' | 'answer'
      readonly cut: boolean
    }
  | { readonly kind: 'rotate' | 'kill' | 'power' | 'boot' | 'restart' | 'join'; readonly at: number }
  | { readonly kind: 'pass'; readonly steps: number }

/** What k3s was asked for and has not answered. */
interface Put {
  readonly at: Machine
  readonly old: string
  readonly next: string
  readonly done: number
}

/**
 * Servers of k3s, the datastore and the offer in it, as far as tokens go. Each look of an agent does one step of the real decisions;
 * between any two of its effects the agent may be killed, the power may be cut, and answers may be lost. Made up.
 */
export class TokenWorld {
  readonly machines: readonly Machine[]
  readonly planners: Planners
  /** Which tokens open what is in the datastore. */
  keys = new Set(['t0'])
  offer: Offer | undefined
  now = 0
  #puts: Put[] = []
  #made = 0
  /** The first thing that must never be. */
  wrong: string | undefined
  readonly steps: string[] = []

  constructor(count: number, planners: Planners = REAL) {
    this.planners = planners
    this.machines = Array.from({ length: count }, (_, index) => ({
      name: `n${index + 1}`,
      on: true,
      up: true,
      refused: false,
      pair: undefined,
      token: 't0',
      agents: 'a0',
      started: { token: 't0', agents: 'a0' },
      printed: 't0',
      rotated: '',
      act: undefined,
    }))
  }

  happen(event: WorldEvent): void {
    this.#tick(event.kind === 'pass' ? event.steps : 1)
    if (event.kind !== 'pass') {
      const machine = this.machines[event.at % this.machines.length]
      if (machine) this.#happenTo(machine, event)
    }
    this.#judge()
  }

  #happenTo(machine: Machine, event: Exclude<WorldEvent, { kind: 'pass' }>): void {
    switch (event.kind) {
      case 'look':
        if (machine.on) this.#look(machine, event)
        return
      case 'rotate':
        if (machine.on && !machine.act) {
          this.#made += 1
          machine.act = this.#newAct(`o${this.#made}`)
        }
        return
      case 'kill':
        if (machine.act) machine.act = this.#newAct(machine.act.operation)
        return
      case 'power':
        if (machine.act) machine.act = this.#newAct(machine.act.operation)
        this.#stopK3s(machine)
        machine.on = false
        return
      case 'boot':
        if (machine.on) return
        machine.on = true
        this.#startK3s(machine)
        return
      case 'restart':
        if (!machine.on) return
        this.#stopK3s(machine)
        this.#startK3s(machine)
        return
      case 'join':
        if (machine.up) this.#join(machine)
        return
    }
  }

  /** What is asked of k3s ends with it, wherever it is: with both keys in the datastore, too. */
  #stopK3s(machine: Machine): void {
    for (const put of this.#puts.filter(({ at }) => at === machine)) {
      if (this.keys.has(put.old) && put.done % 2 === 0) this.keys.add(put.next)
    }
    this.#puts = this.#puts.filter(({ at }) => at !== machine)
    machine.up = false
  }

  #startK3s(machine: Machine): void {
    machine.up = this.keys.has(machine.token)
    machine.refused = !machine.up
    machine.started = { token: machine.token, agents: machine.agents }
    machine.printed = machine.token
  }

  /** A server joins by this one with what it says; whoever comes up has it written in its files. */
  #join(machine: Machine): void {
    if (this.whyNoJoiners(machine) !== undefined) return
    const given = { token: machine.printed, agents: machine.agents }
    const { started, name } = machine
    if (given.token !== started.token || given.agents !== started.agents)
      this.wrong ??= `${name} takes ${started.token} and ${started.agents}, and gives out ${given.token} and ${given.agents}`
    if (!this.keys.has(given.token)) this.wrong ??= `${name} gives out ${given.token}, which opens nothing`
    if (given.agents !== agentsOf(given.token))
      this.wrong ??= `${name} gives out the token of agents of another time, ${given.agents}`
  }

  whyNoJoiners(machine: Machine): ReturnType<typeof whyNoJoiners> {
    const { token, agents, printed, started, pair } = machine
    return this.planners.joiners({
      token,
      agents,
      printed: started.agents,
      between: this.planners.between(
        pair,
        { token, agents },
        pair !== undefined && this.now > pair.until + OVER,
      ),
      current: this.keys.has(printed),
      taken: started.token === printed,
    })
  }

  #newAct(operation: string): Act {
    return { operation, begun: this.now, unanswered: this.now, taking: undefined }
  }

  #tick(steps: number): void {
    this.now += steps
    for (const { at, old, next } of this.#puts.filter(put => put.done <= this.now)) {
      if (!this.keys.has(old)) continue
      this.keys.delete(old)
      this.keys.add(next)
      at.printed = next
    }
    this.#puts = this.#puts.filter(put => put.done > this.now)
  }

  /** Every machine that lost its power now would have a token with which it comes up. */
  #judge(): void {
    for (const { name, token, pair } of this.machines) {
      const has = [token, ...(pair ? [pair.old, pair.next] : [])]
      if (has.some(each => this.keys.has(each))) continue
      this.wrong ??= `${name} keeps ${has.join(' and ')}, the datastore is under ${[...this.keys].join(' and ')}`
    }
  }

  #under(machine: Machine): Under | undefined {
    if (!machine.up) return undefined
    const { pair, token } = machine
    if (!pair) return this.keys.has(token) ? 'old' : 'other'
    const [isOld, isNext] = [this.keys.has(pair.old), this.keys.has(pair.next)]
    return isOld ? (isNext ? 'both' : 'old') : isNext ? 'next' : 'other'
  }

  #look(machine: Machine, { lost, cut }: Extract<WorldEvent, { kind: 'look' }>): void {
    const effects = machine.act ? this.#rotateStep(machine, machine.act) : this.#followStep(machine)
    for (const [index, effect] of effects.entries()) {
      // Killed before the last of them.
      if (cut && index === effects.length - 1) {
        if (machine.act) machine.act = this.#newAct(machine.act.operation)
        return
      }
      if (effect.far && lost === 'call') return
      effect.run()
      // Before anything else is done: after each effect a machine may lose its power.
      this.#judge()
    }
  }

  #rotateStep(machine: Machine, act: Act): readonly Effect[] {
    if (machine.rotated === act.operation) return [near(() => this.#endAct(machine))]
    if (this.now - act.begun > ACT) return [near(() => this.#endAct(machine))]
    const { pair } = machine
    const under = this.#under(machine)
    const { offer } = this
    const others = this.machines.filter(each => each !== machine).map(({ name }) => this.#other(name, pair))
    if (under === 'next' || offer?.cancelled) act.taking ??= this.now
    const step = this.planners.rotate({
      pair: !pair ? 'none' : pair.operation === '' ? 'other' : 'own',
      token: whichOf(machine),
      under,
      others,
      offer: under === undefined ? undefined : this.#offerFor(pair),
      mayAsk: pair !== undefined && this.now < pair.until && this.now - act.begun < KEEP,
      quiet: !pair?.asked || act.unanswered === undefined || this.now - act.unanswered > QUIET,
      waited: act.taking !== undefined && this.now - act.taking > WAIT,
    })
    this.steps.push(`${machine.name} ${step}`)
    switch (step) {
      case 'busy':
      case 'unknown-token':
        return [near(() => this.#endAct(machine))]
      case 'choose':
        return [near(() => this.#choose(machine, act))]
      case 'offer':
        return [far(() => this.#makeOffer(pair))]
      case 'cancel':
        return [
          far(() => {
            if (offer) offer.cancelled = true
          }),
        ]
      case 'seal':
        return [
          far(() => {
            for (const { node, shown } of others)
              if (shown && pair) this.offer?.sealed.set(node, { ...pair, operation: '', asked: false })
          }),
        ]
      case 'ask':
        return pair ? this.#ask(machine, act, pair) : []
      case 'wait':
        return this.#exchange(machine)
      case 'forget':
        return [
          near(() => {
            if (under === 'next') machine.rotated = act.operation
          }),
          ...this.#startWith(machine, whichOf(machine)),
          near(() => {
            machine.pair = undefined
            if (under !== 'next' && pair?.operation === act.operation) this.#endAct(machine)
          }),
        ]
      case 'take':
      case 'give-back':
      case 'drop-old-key':
      case 'withdraw':
        return this.#common(machine, step, offer)
    }
  }

  #followStep(machine: Machine): readonly Effect[] {
    const { pair, name } = machine
    const under = this.#under(machine)
    const { offer } = this
    const id = pair?.id ?? offer?.id
    const words = { taken: offer?.taken.get(name), kept: offer?.kept.get(name) }
    const said =
      id === undefined ? 'nothing' : words.taken === id ? 'taken' : words.kept === id ? 'kept' : 'nothing'
    const step = this.planners.follow({
      pair: pair && {
        own: pair.operation !== '',
        offered: offer?.id === pair.id,
        over: this.now > pair.until + (pair.operation === '' ? FORGET : OVER),
      },
      token: whichOf(machine),
      under,
      offer:
        under === undefined
          ? undefined
          : !offer
            ? 'none'
            : offer.cancelled
              ? 'cancelled'
              : this.#isOver(offer)
                ? 'over'
                : 'live',
      mine: offer?.sealed.has(name) ? 'token' : offer?.keys.has(name) ? 'key' : 'nothing',
      said,
      refused: pair !== undefined && under === undefined && machine.refused,
    })
    this.steps.push(`${name} ${step}`)
    switch (step) {
      case 'rest':
      case 'wait':
        return []
      case 'show-key':
        return [far(() => this.offer?.keys.add(name))]
      case 'keep': {
        const sealed = offer?.sealed.get(name)
        if (!sealed || this.now >= sealed.until) return []
        const kept = { old: machine.token, agents: pair ? agentsOf(machine.token) : machine.agents }
        return [near(() => Object.assign(machine, { pair: { ...sealed, ...kept } }))]
      }
      case 'say-kept':
        return [far(() => this.offer?.kept.set(name, id ?? ''))]
      case 'say-taken':
        return [far(() => this.offer?.taken.set(name, pair?.id ?? ''))]
      case 'exchange':
        return this.#exchange(machine)
      case 'forget':
        return [
          ...this.#startWith(machine, whichOf(machine)),
          near(() => Object.assign(machine, { pair: undefined })),
        ]
      case 'take':
      case 'give-back':
      case 'drop-old-key':
      case 'withdraw':
        return this.#common(machine, step, offer)
    }
  }

  #common(
    machine: Machine,
    step: 'take' | 'give-back' | 'drop-old-key' | 'withdraw',
    offer: Offer | undefined,
  ): readonly Effect[] {
    const { pair } = machine
    switch (step) {
      case 'take':
      case 'give-back':
        return this.#startWith(machine, step === 'take' ? 'next' : 'old')
      case 'drop-old-key':
        return [far(() => this.keys.delete(pair?.old ?? ''))]
      case 'withdraw':
        return [
          far(() => {
            if (this.offer === offer) this.offer = undefined
          }),
        ]
    }
  }

  #exchange(machine: Machine): readonly Effect[] {
    const { pair } = machine
    if (!pair || machine.up || !machine.refused) return []
    return [
      ...this.#startWith(machine, whichOf(machine) === 'next' ? 'old' : 'next'),
      near(() => this.#startK3s(machine)),
    ]
  }

  /** File by file: between any two the agent may be killed. */
  #startWith(machine: Machine, which: Which): readonly Effect[] {
    const { pair } = machine
    if (!pair) return []
    const writes = this.planners.writes(pair, which, { token: machine.token, agents: machine.agents })
    return writes.map(({ name, text }) =>
      near(() => Object.assign(machine, { [name === 'token' ? 'token' : 'agents']: text })),
    )
  }

  #choose(machine: Machine, act: Act): void {
    this.#made += 1
    const id = `r${this.#made}`
    const times = { until: this.now + KEEP, asked: false }
    const tokens = { old: machine.token, next: `t${this.#made}`, agents: machine.agents }
    machine.pair = { id, operation: act.operation, ...tokens, ...times }
  }

  #makeOffer(pair: Pair | undefined): void {
    if (this.offer || !pair) return
    const said = { keys: new Set<string>(), kept: new Map(), taken: new Map(), sealed: new Map() }
    this.offer = { id: pair.id, until: pair.until, cancelled: false, ...said }
  }

  #ask(machine: Machine, act: Act, pair: Pair): readonly Effect[] {
    return [
      near(() => {
        machine.pair = { ...pair, asked: true }
        act.unanswered = this.now
      }),
      far(() => {
        this.#puts.push({
          at: machine,
          old: pair.old,
          next: pair.next,
          done: this.now + (this.now % (PUT + 1)),
        })
        this.#tick(0)
      }),
    ]
  }

  #endAct(machine: Machine): void {
    machine.act = undefined
  }

  #isOver(offer: Offer): boolean {
    return this.now > offer.until + OVER
  }

  #offerFor(pair: Pair | undefined): RotationView['offer'] {
    const { offer } = this
    if (!offer) return 'none'
    if (offer.id === pair?.id) return offer.cancelled ? 'cancelled' : 'ours'
    return offer.cancelled || this.#isOver(offer) ? 'over' : 'live'
  }

  #other(node: string, pair: Pair | undefined): OtherServer {
    const { offer } = this
    if (!pair || offer?.id !== pair.id)
      return { node, shown: false, sealed: false, kept: false, taken: false }
    const taken = offer.taken.get(node) === pair.id
    return {
      node,
      shown: offer.keys.has(node),
      sealed: offer.sealed.has(node),
      taken,
      kept: taken || offer.kept.get(node) === pair.id,
    }
  }

  /** Nothing more befalls it, and everybody does what there is to do. */
  settle(): void {
    for (const machine of this.machines) this.happen({ kind: 'boot', at: this.machines.indexOf(machine) })
    for (let round = 0; round < 400; round += 1) {
      for (const at of this.machines.keys()) this.happen({ kind: 'look', at, lost: 'no', cut: false })
    }
    for (const at of this.machines.keys()) this.happen({ kind: 'restart', at })
  }

  /** Why it has not come to rest as it should; undefined: it has. */
  get unsettled(): string | undefined {
    const [first] = this.machines
    const token = first?.token ?? ''
    if (this.wrong !== undefined) return this.wrong
    if (this.machines.some(each => !each.up)) return 'a server does not come up'
    if (this.machines.some(each => each.token !== token)) return 'servers start with different tokens'
    const other = this.machines.find(each => each.agents !== agentsOf(token))
    if (other) return `${other.name} starts with ${other.agents} for agents, which does not go with ${token}`
    if ([...this.keys].join() !== token)
      return `the datastore is under ${[...this.keys].join(' and ')}, not ${token}`
    const shut = this.machines.find(each => this.whyNoJoiners(each) !== undefined)
    if (shut) return `no server can join by ${shut.name}`
    if (this.machines.some(each => each.pair)) return 'a token is kept that is of no more use'
    return this.offer ? 'the offer is left in the cluster' : undefined
  }
}

/** The token of agents that goes with one of servers. */
const agentsOf = (token: string): string => (token === 't0' ? 'a0' : agentTokenAfter(token))

interface Effect {
  readonly far: boolean
  readonly run: () => void
}
/** On the machine itself. */
const near = (run: () => void): Effect => ({ far: false, run })
/** By way of the cluster: it may not come about, or be answered. */
const far = (run: () => void): Effect => ({ far: true, run })

const whichOf = ({ pair, token }: Machine) => (pair && token === pair.next ? 'next' : 'old')
