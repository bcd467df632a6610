import type { Distributed } from '../driver-base.ts'
import { DONE, type Result } from '../result.ts'
import { untilNothingRuns } from './left-running.ts'
import { unmountBelow } from './unmount-below.ts'

/** Where a distribution has what its pods are made of. */
export interface PodPlaces {
  /** Of the container runtime that it brings. */
  readonly socket: string
  /** Of its kubelet. */
  readonly kubelet: string
}

/**
 * Looks after a program that ends every pod of this machine: nothing of them runs, and none of their volumes is mounted any more where
 * things are about to be removed. Then what they were given goes.
 */
export async function untilPodsAreGone(
  { deps: { system, files } }: Distributed,
  { socket, kubelet }: PodPlaces,
  signal?: AbortSignal,
): Promise<Result<void>> {
  const ended = await untilNothingRuns(system, socket, signal)
  if (ended.kind === 'failed') return ended
  // As mounts are named; by way of a link none would be found, and volumes be emptied.
  const folder = await files.resolve(kubelet)
  const pods = `${folder}/pods`
  const unmounted = await unmountBelow(system, [pods, `${folder}/plugins`], signal)
  if (unmounted.kind === 'failed') return unmounted
  for (const name of await files.list(pods)) await files.remove(`${pods}/${name}`)
  return DONE
}
