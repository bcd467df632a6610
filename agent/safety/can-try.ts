import type { System } from '../system/system.ts'
import { profileSystem } from '../system/system-links.ts'
import { whyNotDefault } from './boot-default.ts'
import { hasOneShotBoot } from './one-shot.ts'

/** Whether a system can be booted once while another stays the default. */
export type TrialAnswer =
  | { readonly kind: 'can' }
  /** Nobody knows, which is no better. */
  | { readonly kind: 'cannot'; readonly why: string }

/** Asks what booted this machine, and what its installer left when it wrote the boot loader last. */
export async function canTry(system: System, root: string): Promise<TrialAnswer> {
  const cannot = (why: string): TrialAnswer => ({ kind: 'cannot', why })
  const oneShot = await hasOneShotBoot(system)
  if (oneShot === undefined) return cannot('what its boot loader can do cannot be read')
  if (!oneShot) return cannot('its boot loader cannot boot it once for a trial')
  const profile = await profileSystem(system, root)
  if (profile?.generation === undefined) return cannot('what the next boot starts has no generation')
  const why = await whyNotDefault(system, root, profile.storePath)
  return why === undefined ? { kind: 'can' } : cannot(why)
}
