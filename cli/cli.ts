import type { Clock } from '../shared/clock.ts'
import type { Settings } from './config.ts'
import type { Io } from './io.ts'

/** Where the coordinator is to be found, as the command line says it. */
export interface ConnectionChoice {
  readonly socket?: string | undefined
  readonly profile?: string | undefined
}

/** What every command is given. */
export interface Cli {
  readonly io: Io
  readonly settings: Settings
  readonly signal: AbortSignal
  readonly clock: Clock
  readonly connection: () => ConnectionChoice
}
