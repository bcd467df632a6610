import { homedir } from 'node:os'
import { join, resolve } from 'node:path'

/** What the environment says. This is the only place that reads it. */
export interface Settings {
  /** $MUSTER_SOCKET; undefined: not said. */
  readonly socket: string | undefined
  /** $MUSTER_PROFILE. */
  readonly profile: string | undefined
  /** Keys, trust and operator profiles of this person. */
  readonly configHome: string
  /** NO_COLOR is set, or the terminal understands none. */
  readonly noColour: boolean
  readonly columns: number | undefined
}

type Environment = Readonly<Record<string, string | undefined>>

export function readSettings(environment: Environment = process.env): Settings {
  // By the XDG specification, a relative path there counts as not set.
  const xdg = environment.XDG_CONFIG_HOME?.startsWith('/') ? environment.XDG_CONFIG_HOME : undefined
  const home = environment.HOME || homedir()
  const columns = Number(environment.COLUMNS)
  return {
    socket: environment.MUSTER_SOCKET || undefined,
    profile: environment.MUSTER_PROFILE || undefined,
    configHome: environment.MUSTER_CONFIG_HOME
      ? resolve(environment.MUSTER_CONFIG_HOME)
      : join(xdg ?? join(home, '.config'), 'muster'),
    noColour: Boolean(environment.NO_COLOR) || environment.TERM === 'dumb',
    columns: Number.isInteger(columns) && columns > 0 ? columns : undefined,
  }
}
