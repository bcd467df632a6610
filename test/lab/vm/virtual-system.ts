import { join } from 'node:path'
import { addToStore } from '../nix.ts'
import type { SystemOptions } from '../systems.ts'
import { ensureVmRoot, INITRD, KERNEL } from './vm-root.ts'

/** `panic=` as the agent's module sets it: a kernel that gave up starts the machine anew. */
const PARAMETERS = ['console=ttyS0', 'root=/dev/vda2', 'rw', 'quiet', 'panic=10', 'no_timer_check'] as const

/** The kernel of virtual machines and its initial file system, as store paths of the host. */
export async function bootFiles(): Promise<{ readonly kernel: string; readonly initrd: string }> {
  const root = await ensureVmRoot()
  return { kernel: await addToStore(join(root, KERNEL)), initrd: await addToStore(join(root, INITRD)) }
}

/** A lab system that a virtual machine can boot: with a real kernel, and parameters that find the disk. */
export async function virtualSystem(options: SystemOptions = {}): Promise<SystemOptions> {
  const { kernel, initrd } = await bootFiles()
  return {
    kernelFile: kernel,
    initrdFile: initrd,
    ...options,
    kernelParams: [...PARAMETERS, ...(options.kernelParams ?? [])],
  }
}
