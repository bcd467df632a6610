import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createRealSystem } from '../../system/real-system.ts'
import type { System } from '../../system/system.ts'
import { NEEDED } from '../toplevel.ts'

const HASH = '0123456789abcdfghijklmnpqrsvwxyz'

/** The store path of a made-up package. */
export function storePath(name: string, letter = 'a'): string {
  return `/nix/store/${letter}${HASH.slice(1)}-${name}`
}

/**
 * A machine as a folder on disk, read through a real system that takes it for `/`. Its `systemctl` and `nix-store` are
 * scripts that print what a test writes.
 */
export class PlanMachine implements AsyncDisposable {
  readonly root: string
  readonly system: System

  private constructor(root: string) {
    this.root = root
    this.system = createRealSystem({ root, path: join(root, 'bin') })
  }

  static async make(): Promise<PlanMachine> {
    const machine = new PlanMachine(await mkdtemp(join(tmpdir(), 'plan-')))
    await machine.program(
      'systemctl',
      `while IFS= read -r line; do echo "$line"; done < ${machine.root}/states`,
    )
    // Each path is a closure of itself and one other, of a thousand bytes each.
    await machine.program(
      'nix-store',
      `case "$2" in
      --requisites) echo "$3"; echo "${storePath('shared')}" ;;
      --size) shift 2; for path; do echo 1000; done ;;
      *) exit 1 ;;
      esac`,
    )
    await machine.states('systemd-logind.service')
    return machine
  }

  /** Writes files; a text that begins with "-> " makes a link. */
  async files(files: Readonly<Record<string, string>>): Promise<void> {
    for (const [path, text] of Object.entries(files)) {
      const file = join(this.root, path)
      await mkdir(dirname(file), { recursive: true })
      await rm(file, { force: true, recursive: true })
      if (text.startsWith('-> ')) await symlink(text.slice(3), file)
      else await writeFile(file, text)
    }
  }

  /** A command that is found by its name. */
  async program(name: string, body: string): Promise<void> {
    await this.script(`bin/${name}`, body)
  }

  async script(path: string, body: string): Promise<void> {
    await this.files({ [path]: `#!/bin/sh\n${body}\n` })
    await chmod(join(this.root, path), 0o755)
  }

  /** What `systemctl show` tells: names of active units, "NAME failed" for others. */
  async states(...words: readonly string[]): Promise<void> {
    const blocks = words.map(word => {
      const [unit, active = 'active'] = word.split(' ')
      return `Id=${unit}\nFollowing=\nLoadState=loaded\nActiveState=${active}\nFragmentPath=/etc/systemd/system/${unit}\n`
    })
    await this.files({ states: blocks.join('\n') })
  }

  /** A whole toplevel in the store; `change` adds and replaces files of it, an empty text takes one away. */
  async toplevel(letter: string, change: Readonly<Record<string, string>> = {}): Promise<string> {
    const path = storePath('nixos-system-olaf-25.11', letter)
    const agent = storePath('muster-agent')
    const whole: Record<string, string> = {
      ...Object.fromEntries(NEEDED.map(name => [name, 'x\n'])),
      'systemd/lib/systemd/systemd': '',
      systemd: `-> ${storePath('systemd')}`,
      system: 'x86_64-linux\n',
      'init-interface-version': 'systemd 2\n',
      'nixos-version': '25.11\n',
      'etc/hostname': 'olaf\n',
      'etc/fstab': '/dev/vda / ext4 defaults 0 1\n',
      kernel: `-> ${storePath('linux')}/bzImage`,
      initrd: `-> ${storePath('initrd')}/initrd`,
      'kernel-modules': `-> ${storePath('modules')}`,
      'kernel-params': 'loglevel=4\n',
      'etc/systemd/system/sysinit-reactivation.target': '[Unit]\n',
      'etc/systemd/system/multi-user.target': '[Unit]\n',
      'etc/systemd/system/muster-agent.service': `[Service]\nExecStart=${agent}/bin/agent --config x\nX-RestartIfChanged=false\n`,
      'etc/systemd/system/muster-dead-man.service': `[Service]\nExecStart=${agent}/bin/dead-man\n`,
      ...change,
    }
    await this.files({
      [`${agent}/bin/agent`]: 'x',
      [`${agent}/bin/dead-man`]: 'x',
      [`${storePath('systemd')}/lib/systemd/systemd`]: 'x',
      [`${storePath('linux')}/bzImage`]: 'k'.repeat(1000),
      [`${storePath('initrd')}/initrd`]: 'i'.repeat(500),
    })
    for (const [name, text] of Object.entries(whole)) {
      if (text !== '') await this.files({ [`${path}/${name}`]: text })
    }
    return path
  }

  /** Makes a toplevel the running one, the booted one and generation 1 of the profile. */
  async runs(path: string): Promise<void> {
    await this.files({
      'run/current-system': `-> ${path}`,
      'run/booted-system': `-> ${path}`,
      'nix/var/nix/profiles/system': '-> system-1-link',
      'nix/var/nix/profiles/system-1-link': `-> ${path}`,
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.root, { recursive: true, force: true })
  }
}
