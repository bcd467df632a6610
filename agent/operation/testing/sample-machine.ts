import { join } from 'node:path'
import { type Script, ScriptedSystem } from './scripted-system.ts'

export const OLD = `/nix/store/${'0'.repeat(32)}-nixos-system-olaf-1`
export const NEW = `/nix/store/${'1'.repeat(32)}-nixos-system-olaf-2`
export const CURRENT = '/root/run/current-system'
export const BOOTED = '/root/run/booted-system'
export const PROFILE = '/root/nix/var/nix/profiles/system'
const BOOT_ID = '/proc/sys/kernel/random/boot_id'

export const switchProgram = (toplevel: string) => join(toplevel, 'bin/switch-to-configuration')
const generationLink = (number: number) => `${PROFILE}-${number}-link`

/** What a good switch does: says so, and moves /run/current-system. */
export function goodSwitch(system: ScriptedSystem, toplevel: string): Script {
  return ([action]) => {
    if (action === 'boot') writeEntries(system, toplevel)
    if (action !== 'test') return {}
    system.links.set(CURRENT, toplevel)
    return { stderr: ['activating the configuration...'] }
  }
}

/**
 * A machine that runs OLD, which is generation 1 of its profile, builds NEW, and switches to either when it is told to.
 * Its profile and its generations are kept as Nix keeps them.
 */
export function sampleMachine(): ScriptedSystem {
  const system = new ScriptedSystem()
  for (const link of [CURRENT, BOOTED, generationLink(1)]) system.links.set(link, OLD)
  system.links.set(PROFILE, 'system-1-link')
  const agent = `/nix/store/${'2'.repeat(32)}-muster-agent/bin/muster-agent`
  system.files.set(agent, '')
  for (const toplevel of [OLD, NEW]) {
    for (const name of [
      ...['activate', 'init', 'init-interface-version', 'nixos-version', 'bin/switch-to-configuration'],
      ...['systemd/lib/systemd/systemd', 'etc/systemd/system/sysinit-reactivation.target'],
    ]) {
      system.files.set(join(toplevel, name), '')
    }
    for (const unit of ['muster-agent.service', 'muster-dead-man.service']) {
      system.files.set(join(toplevel, 'etc/systemd/system', unit), `[Service]\nExecStart=${agent}\n`)
    }
    system.files.set(toplevel, '')
    system.scripts.set(switchProgram(toplevel), goodSwitch(system, toplevel))
  }
  system.files.set(join(NEW, 'system'), 'x86_64-linux\n')
  system.files.set(join(OLD, 'system'), 'x86_64-linux\n')
  system.scripts.set('nixos-rebuild', (_, cwd) => {
    system.links.set(join(cwd ?? '', 'result'), NEW)
    return { stdout: [NEW], stderr: ['building…'] }
  })
  system.scripts.set('nix-env', args => nixEnv(system, args))
  system.scripts.set('nix-store', () => ({ stdout: [] }))
  writeEntries(system, OLD)
  return system
}

export const LOADER_CONF = '/root/boot/loader/loader.conf'
const entryFile = (number: number) => `/root/boot/loader/entries/nixos-generation-${number}.conf`

/** What the boot loader's installer leaves: an entry for each generation, and as the default the newest of the toplevel's. */
function writeEntries(system: ScriptedSystem, toplevel: string): void {
  for (const [link, path] of system.links) {
    const number = link.startsWith(`${PROFILE}-`) ? /-(\d+)-link$/.exec(link)?.[1] : undefined
    if (number === undefined) continue
    system.files.set(entryFile(Number(number)), path)
    if (path === toplevel)
      system.files.set(LOADER_CONF, `timeout 5\ndefault nixos-generation-${number}.conf\n`)
  }
}

/** What the boot loader starts when nobody chooses: the entry that is named, or for a pattern the newest. */
export function loaderDefault(system: ScriptedSystem): string | undefined {
  const conf = system.files.get(LOADER_CONF) ?? ''
  const numbers = [...system.links.keys()].flatMap(link => /^.*\/system-(\d+)-link$/.exec(link)?.[1] ?? [])
  const number = conf.includes('default nixos-*')
    ? Math.max(...numbers.map(Number))
    : Number(/^default nixos-generation-(\d+)\.conf$/m.exec(conf)?.[1])
  return system.files.get(entryFile(number))
}

/** An installer like lanzaboote's: whatever it is called for, the newest is what the boot loader starts. */
export function startNewest(system: ScriptedSystem): ScriptedSystem {
  for (const toplevel of [OLD, NEW]) {
    const install = system.scripts.get(switchProgram(toplevel))
    system.scripts.set(switchProgram(toplevel), async (args, cwd) => {
      const end = (await install?.(args, cwd)) ?? {}
      if (args[0] === 'boot') system.files.set(LOADER_CONF, 'default nixos-*\n')
      return end
    })
  }
  return system
}

/** What the profile names: the boot default. */
export function bootDefault(system: ScriptedSystem): string | undefined {
  return system.links.get(join(PROFILE, '..', system.links.get(PROFILE) ?? ''))
}

/** What a boot leaves of a machine: what the profile names runs, and the boot has an id of its own. */
export function bootAnew(system: ScriptedSystem, toplevel = bootDefault(system)): void {
  const count = Number(/\d+$/.exec(system.files.get(BOOT_ID) ?? '')?.[0] ?? 0)
  system.files.set(BOOT_ID, `boot-${count + 1}`)
  if (toplevel === undefined) return
  system.links.set(CURRENT, toplevel)
  system.links.set(BOOTED, toplevel)
}

function nixEnv(system: ScriptedSystem, args: readonly string[]) {
  if (args[0] === '--version') return { stdout: ['nix-env (Nix) 2.8.0'] }
  const [, , verb, value = ''] = args
  if (verb === '--switch-generation') {
    if (!system.links.has(generationLink(Number(value)))) {
      return { exitCode: 1, stderr: [`error: generation ${value} does not exist`] }
    }
    system.links.set(PROFILE, `system-${value}-link`)
    return {}
  }
  if (verb === '--delete-generations') {
    for (const number of args.slice(3)) system.links.delete(generationLink(Number(number)))
    return {}
  }
  if (verb !== '--set') return { exitCode: 1, stderr: [`error: unknown flag '${verb ?? ''}'`] }
  let newest = 1
  while (system.links.has(generationLink(newest + 1))) newest += 1
  // Nix makes no second generation of the system that the newest one names.
  if (system.links.get(generationLink(newest)) !== value) newest += 1
  system.links.set(generationLink(newest), value)
  system.links.set(PROFILE, `system-${newest}-link`)
  return {}
}
