import { describeEnding, type RunResult, type System, succeeded } from '../system/system.ts'
import type { Generation } from './generations.ts'

export interface RemovalOrder {
  readonly system: System
  /** The system profile, such as /nix/var/nix/profiles/system. */
  readonly profile: string
  readonly remove: readonly Generation[]
  /** The system that the next boot starts now and shall go on starting. */
  readonly bootDefault: string
  readonly deadlineMs: number
  /**
   * Has that system's own program write the boot loader, where whoever ends this process does not end it. Says what went wrong.
   */
  readonly runBoot: (toplevel: string) => Promise<string | undefined>
  /** Delete afterwards what nothing holds any more. */
  readonly collectGarbage: boolean
  readonly signal?: AbortSignal | undefined
}

export type Removal =
  | { readonly kind: 'removed'; readonly numbers: readonly number[] }
  /** `step` is what failed; those before it are done, and all can be done again. */
  | { readonly kind: 'failed'; readonly step: 'delete' | 'boot' | 'collect'; readonly reason: string }

/** Numbers on one command line. */
const AT_ONCE = 200

/**
 * Removes generations, then has the present boot default install the boot loader again, which drops the kernels and
 * entries of what is gone, then collects garbage. Killed between two steps it is simply done again.
 */
export async function removeGenerations(order: RemovalOrder): Promise<Removal> {
  const { system, profile, deadlineMs, signal } = order
  const numbers = order.remove.map(({ number }) => number)
  for (let at = 0; at < numbers.length; at += AT_ONCE) {
    const words = numbers.slice(at, at + AT_ONCE).map(String)
    const run = await system.run('nix-env', ['--profile', profile, '--delete-generations', ...words], {
      deadlineMs,
      signal,
    })
    if (!succeeded(run.ending)) return failure('delete', 'nix-env --delete-generations', run)
  }
  // Not given the signal: a boot loader that is half written is worse than one that is late.
  const problem = await order.runBoot(order.bootDefault)
  if (problem !== undefined) return { kind: 'failed', step: 'boot', reason: problem }
  if (order.collectGarbage) {
    const collected = await system.run('nix-store', ['--gc'], { deadlineMs, signal })
    if (!succeeded(collected.ending)) return failure('collect', 'nix-store --gc', collected)
  }
  return { kind: 'removed', numbers }
}

function failure(step: 'delete' | 'collect', command: string, run: RunResult): Removal {
  const said = run.stderr.trim().split('\n').at(-1)?.slice(0, 200) ?? ''
  const reason = describeEnding(command, run.ending)
  return { kind: 'failed', step, reason: said === '' ? reason : `${reason}: ${said}` }
}
