import { join } from 'node:path'

/** Where the benchmark finds the programs and keeps its files. */
export interface Places {
  /** A folder of this run, removed at its end. */
  readonly scratch: string
  /** The cached pool of keys. */
  readonly keys: string
  /** A built program of the product. */
  program(name: 'agent' | 'coordinator'): string
  /** A built file of the benchmark itself. */
  bundle(name: 'client' | 'floor-server' | 'hook'): string
}

export function placesIn(checkout: string, scratch: string): Places {
  return {
    scratch,
    keys: join(checkout, '.cache/bench/keys'),
    program: name => join(checkout, 'dist', `${name}.mjs`),
    bundle: name => join(checkout, '.cache/bench', `${name}.mjs`),
  }
}
