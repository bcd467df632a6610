import { describeEnding, type Ending } from '../system/system.ts'

/** What an act of a driver came to. Expected failures are values; each names what was asked for and what would cure it. */
export type Result<T> = { readonly kind: 'done'; readonly value: T } | Failure

export interface Failure {
  readonly kind: 'failed'
  readonly class: FailureClass
  readonly reason: string
}

export type FailureClass =
  /** Something that must be so first is not; nothing was changed. */
  | 'precondition'
  /** The distribution has no such thing; another way is named. */
  | 'unsupported'
  /** An answer or a file could not be understood: treated as a refusal, never as empty. */
  | 'unreadable'
  /** A command failed. */
  | 'command'
  | 'timed-out'
  | 'cancelled'
  /** The cluster does not take the token. */
  | 'token-refused'
  /** Another machine had the node's name and is not cleared away. */
  | 'name-taken'
  /** The datastore would not, or does not, have a majority. */
  | 'quorum'
  /** Pods stay on the node. */
  | 'blocked'
  | 'not-ready'
  /** Somebody else did it, so it is not ours to undo. */
  | 'not-ours'
  /** There is a cluster's data on the disk that this act would destroy or join over. */
  | 'data-present'
  /** What was asked for is not there. */
  | 'not-found'

export const done = <T>(value: T): Result<T> => ({ kind: 'done', value })

export const DONE: Result<void> = { kind: 'done', value: undefined }

export function failed(kind: FailureClass, reason: string): Failure {
  return { kind: 'failed', class: kind, reason }
}

/** The failure that a command's ending is. */
export function failedEnding(command: string, ending: Ending, said: string): Failure {
  const text = said === '' ? describeEnding(command, ending) : `${describeEnding(command, ending)}: ${said}`
  switch (ending.kind) {
    case 'timed-out':
      return failed('timed-out', text)
    case 'cancelled':
      return failed('cancelled', text)
    case 'not-found':
      return failed('precondition', `${text}; install it, or name its folder in the host's configuration`)
    case 'exited':
    case 'signalled':
    case 'not-started':
      return failed('command', text)
  }
}
