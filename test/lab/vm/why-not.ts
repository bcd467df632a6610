import { existsSync } from 'node:fs'
import { missingPrograms, whyNoLab } from '../why-not.ts'

/** UEFI of virtual machines: its code, and an empty set of its variables. */
export const FIRMWARE = '/usr/share/OVMF/OVMF_CODE_4M.fd'
export const VARIABLES = '/usr/share/OVMF/OVMF_VARS_4M.fd'

/** Programs of the host that virtual machines need; scripts/test.mjs installs them where it may. */
const NEEDED = [
  'qemu-system-x86_64',
  'qemu-img',
  'sfdisk',
  'mke2fs',
  'mkfs.vfat',
  'mmd',
  'mcopy',
  'setpriv',
] as const

/** Why no virtual machine can run here; undefined when they can. */
export function whyNoVirtualMachine(): string | undefined {
  const lab = whyNoLab()
  if (lab !== undefined) return lab
  if (process.arch !== 'x64') return 'virtual machines of the lab are x86_64 ones'
  const missing = missingPrograms(NEEDED)
  if (missing.length > 0) return `missing: ${missing.join(', ')}`
  return existsSync(FIRMWARE) ? undefined : `the firmware ${FIRMWARE} is missing (Debian package ovmf)`
}
