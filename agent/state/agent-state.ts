import { join } from 'node:path'
import type { ChainHead } from '../../shared/audit/event-chain.ts'
import { readFileIfThere, writeFileDurably } from '../../shared/durable-file.ts'
import { reasonOf } from '../../shared/errors.ts'
import { isDigest } from '../../shared/ids.ts'
import { splitCertificates } from '../../shared/x509/pem.ts'
import { StateError } from './state-error.ts'

/** Something an operator should see, kept until a coordinator has read it. */
export interface PendingEvent {
  readonly class: string
  readonly reason: string
  /** Milliseconds since 1970. */
  readonly at: number
}

/** What the agent knows from one start to the next, beside its key, its certificate and its trust set. */
export interface AgentState {
  /** The id of this machine's key, from the moment the key is on disk. */
  readonly machine: string | undefined
  /** The pin this machine was first given, so that the token file may be deleted afterwards. */
  readonly caPin: string | undefined
  readonly trustPin: string | undefined
  /** A trust set was held once: its file may not be missing any more. */
  readonly hasTrust: boolean
  readonly bootId: string
  /** Boots counted so far; never falls. */
  readonly bootCount: number
  /** Authorities seen under a trusted pin, PEM. */
  readonly authorities: readonly string[]
  /** host:port of the fleet listener, as told at enrolment. */
  readonly fleetAddress: string | undefined
  /** Digest of the facts the coordinator acknowledged last. */
  readonly factsDigest: string
  /** The host this machine is bound to, as the coordinator said last; for people. */
  readonly host: string
  readonly events: readonly PendingEvent[]
  /** How far the coordinator's record of events went when it was shown, oldest first: what an audit compares. */
  readonly auditHeads: readonly ChainHead[]
}

/** A boot, and the how many-th it is. */
export type BootCount = Pick<AgentState, 'bootId' | 'bootCount'>

export const FRESH_STATE: AgentState = {
  machine: undefined,
  caPin: undefined,
  trustPin: undefined,
  hasTrust: false,
  bootId: '',
  bootCount: 0,
  authorities: [],
  fleetAddress: undefined,
  factsDigest: '',
  host: '',
  events: [],
  auditHeads: [],
}

const STATE_FILE = 'state.json'
const MAX_EVENTS = 32
const MAX_AUTHORITIES = 16

/**
 * The file `state.json`. INVARIANTS: this is its only writer; changes are applied one after the other; what `current`
 * says is on disk, but for the count of boots on a full disk, which is written with the next change.
 */
export class AgentStateFile {
  readonly #path: string
  #current: AgentState
  #last: Promise<unknown> = Promise.resolve()

  private constructor(path: string, current: AgentState) {
    this.#path = path
    this.#current = current
  }

  /** Reads the file. Undefined when there is none; throws when there is one that cannot be read. */
  static async open(directory: string): Promise<AgentStateFile | undefined> {
    const path = join(directory, STATE_FILE)
    let bytes: Buffer | undefined
    try {
      bytes = await readFileIfThere(path)
    } catch (error) {
      throw new StateError(`${path}: cannot be read: ${reasonOf(error)}`, { cause: error })
    }
    return bytes && new AgentStateFile(path, parseState(path, bytes.toString('utf8')))
  }

  static async create(directory: string): Promise<AgentStateFile> {
    const file = new AgentStateFile(join(directory, STATE_FILE), FRESH_STATE)
    await file.update(state => state)
    return file
  }

  get current(): AgentState {
    return this.#current
  }

  /** Takes a count of boots that is kept elsewhere, until the next change writes it here. */
  adoptBoot({ bootId, bootCount }: BootCount): void {
    this.#current = { ...this.#current, bootId, bootCount }
  }

  /** Durable when it returns. */
  update(change: (state: AgentState) => AgentState): Promise<void> {
    const done = this.#last.then(async () => {
      const next = bounded(change(this.#current))
      await writeFileDurably(this.#path, `${JSON.stringify({ v: 1, ...next }, undefined, 2)}\n`)
      this.#current = next
    })
    this.#last = done.catch(() => {}) // reported to who asked; the next change starts from what is on disk
    return done
  }
}

function bounded(state: AgentState): AgentState {
  return {
    ...state,
    events: state.events.slice(-MAX_EVENTS),
    authorities: state.authorities.slice(-MAX_AUTHORITIES),
  }
}

/** The state after a start under this boot id: a boot is counted once, however often the agent starts in it. */
export function countBoot(state: AgentState, bootId: string): AgentState {
  return state.bootId === bootId ? state : { ...state, bootId, bootCount: state.bootCount + 1 }
}

/** The one that was counted last. */
export function laterCount(one: BootCount, other: BootCount | undefined): BootCount {
  return other && other.bootCount > one.bootCount ? other : one
}

/** Reads the text of `state.json`. Anything but a whole and sensible state throws: it is never taken for a fresh one. */
export function parseState(path: string, text: string): AgentState {
  const damaged = (what: string): never => {
    throw new StateError(
      `${path}: ${what}. Put the file back from a backup; or, to enrol as a new machine, remove the whole directory`,
    )
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    return damaged(`is damaged (${reasonOf(error)})`)
  }
  if (typeof value !== 'object' || value === null) return damaged('is damaged (no object)')
  const fields = new Map<string, unknown>(Object.entries(value))
  if (fields.get('v') !== 1) {
    return damaged(`was written by another version (v: ${String(fields.get('v'))}, this agent knows 1)`)
  }
  const text_ = (name: string): string => {
    const field = fields.get(name)
    return typeof field === 'string' ? field : damaged(`${name} is missing or no text`)
  }
  const optional = (name: string, good: (text: string) => boolean = () => true): string | undefined => {
    const field = fields.get(name)
    if (field === undefined) return undefined
    return typeof field === 'string' && good(field) ? field : damaged(`${name} is not what it must be`)
  }
  const bootCount = fields.get('bootCount')
  if (typeof bootCount !== 'number' || !Number.isSafeInteger(bootCount) || bootCount < 0) {
    return damaged('bootCount is missing or no count')
  }
  const hasTrust = fields.get('hasTrust')
  if (typeof hasTrust !== 'boolean') return damaged('hasTrust is missing')
  const authorities = listOf(fields.get('authorities')) ?? damaged('authorities is missing')
  const events = listOf(fields.get('events')) ?? damaged('events is missing')
  return {
    machine: optional('machine', isDigest),
    caPin: optional('caPin', isDigest),
    trustPin: optional('trustPin', isDigest),
    hasTrust,
    bootId: text_('bootId'),
    bootCount,
    authorities: authorities.map(pem =>
      typeof pem === 'string' && splitCertificates(pem).length === 1
        ? pem
        : damaged('authorities holds what is no certificate'),
    ),
    fleetAddress: optional('fleetAddress'),
    factsDigest: text_('factsDigest'),
    host: text_('host'),
    events: events.map(event => parseEvent(event) ?? damaged('events holds what is no event')),
    auditHeads: (listOf(fields.get('auditHeads') ?? []) ?? damaged('auditHeads is no list')).map(
      head => parseHead(head) ?? damaged('auditHeads holds what is no link'),
    ),
  }
}

function listOf(value: unknown): readonly unknown[] | undefined {
  return Array.isArray(value) ? value : undefined
}

function parseHead(value: unknown): ChainHead | undefined {
  const fields = new Map<string, unknown>(Object.entries(value ?? {}))
  const [id, hash] = [fields.get('id'), fields.get('hash')]
  return typeof id === 'number' && Number.isSafeInteger(id) && typeof hash === 'string' && isDigest(hash)
    ? { id, hash }
    : undefined
}

function parseEvent(value: unknown): PendingEvent | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const fields = new Map<string, unknown>(Object.entries(value))
  const [name, reason, at] = ['class', 'reason', 'at'].map(field => fields.get(field))
  if (typeof name !== 'string' || typeof reason !== 'string' || typeof at !== 'number') return undefined
  return { class: name, reason, at }
}
