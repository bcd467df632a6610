import type { Finished } from '../../support/program.ts'
import { type Lab, startLab } from '../lab.ts'
import type { LabMachine } from '../machine.ts'
import { storeLayer } from '../store-layer.ts'
import { buildSystems, type SystemOptions } from '../systems.ts'

/** Where units and scripts of these tests say what they did, a word a line. */
const TRACE = '/run/trace'

/** A line for a unit or a script that leaves a word in the trace. */
export const trace = (word: string): string => `/bin/sh -c "echo ${word} >>${TRACE}"`

export interface UnitOptions {
  /** Lines of [Unit] and of the section that the kind of unit has. */
  readonly unit?: readonly string[]
  readonly lines?: readonly string[]
  readonly wanted?: boolean
}

/** The text of a unit that sleeps; another `version` is another unit. */
export function service(version: string, { unit = [], lines = [], wanted = true }: UnitOptions = {}): string {
  return [
    '[Unit]',
    ...unit,
    '[Service]',
    `Environment=VERSION=${version}`,
    'ExecStart=/bin/sleep infinity',
    ...lines,
    ...(wanted ? ['[Install]', 'WantedBy=multi-user.target'] : []),
  ].join('\n')
}

export type Action = 'switch' | 'boot' | 'test' | 'dry-activate' | 'check'

/** A machine that has all the systems of a test file in its store, and runs `base` first. */
export class Switching<Name extends string> implements AsyncDisposable {
  readonly lab: Lab
  readonly machine: LabMachine
  readonly path: Readonly<Record<Name, string>>

  constructor(lab: Lab, machine: LabMachine, path: Readonly<Record<Name, string>>) {
    this.lab = lab
    this.machine = machine
    this.path = path
  }

  static async start<Name extends string>(
    systems: Readonly<Record<Name | 'base', SystemOptions>>,
  ): Promise<Switching<Name | 'base'>> {
    const path = await buildSystems(systems)
    const lab = await startLab()
    const layers = await storeLayer(lab.root, [], Object.values<string>(path))
    const machine = await lab.startMachine('olaf', { layers, system: path.base })
    return new Switching(lab, machine, path)
  }

  /** Runs the program of a system in a process of its own, as a person at a shell does. */
  async run(action: Action, name: Name, env: Readonly<Record<string, string>> = {}): Promise<Finished> {
    return await this.machine.exec([`${this.path[name]}/bin/switch-to-configuration`, action], { env })
  }

  /** Back to a system as if nothing had been before; the trace is empty. */
  async reset(name: Name): Promise<void> {
    await this.sh('rm -f /run/nixos/*-list')
    const { code, stderr } = await this.run('switch', name)
    if (code !== 0) throw new Error(`back to ${name}: exit ${code}\n${stderr}`)
    await this.sh(`systemctl reset-failed; rm -f ${TRACE}; journalctl --rotate --quiet`)
  }

  async sh(script: string): Promise<string> {
    return await this.machine.ok(['sh', '-c', script])
  }

  /** What units and scripts said since the reset. */
  async traced(): Promise<readonly string[]> {
    return (await this.sh(`cat ${TRACE} 2>/dev/null || true`)).split('\n').filter(word => word !== '')
  }

  async isActive(unit: string): Promise<boolean> {
    return (await this.machine.exec(['systemctl', 'is-active', '--quiet', unit])).code === 0
  }

  /** A property of a unit, as `systemctl show` tells it. */
  async show(unit: string, property: string): Promise<string> {
    return (await this.machine.ok(['systemctl', 'show', '--value', `--property=${property}`, unit])).trim()
  }

  /** The lists that are there, by name, with their lines. */
  async lists(): Promise<Readonly<Record<string, readonly string[]>>> {
    const names = (await this.sh('cd /run/nixos && ls | grep -e -list || true')).split('\n').filter(Boolean)
    const lists = await Promise.all(
      names.map(async name => {
        const lines = (await this.machine.readFile(`/run/nixos/${name}`)).split('\n').filter(Boolean)
        return [name.replace(/-list$/, ''), lines.toSorted()]
      }),
    )
    return Object.fromEntries(lists)
  }

  /** Lines of the journal under the identifier `nixos`, without the store path. */
  async journal(since: string): Promise<readonly string[]> {
    await this.sh('journalctl --sync')
    const lines = await this.machine.ok([
      ...['journalctl', '--quiet', '--no-pager', '-t', 'nixos', '-o', 'cat', `--after-cursor=${since}`],
    ])
    return lines.split('\n').filter(Boolean)
  }

  /**
   * Where the journal ends. The mark has the identifier that is looked for, because journalctl leaves out one line too many
   * after a cursor whose own line it would not show.
   */
  async cursor(): Promise<string> {
    const said = await this.sh(
      'logger -t nixos mark; journalctl --sync; journalctl -t nixos -n 1 -o cat --show-cursor --quiet | tail -n 1',
    )
    return said.replace('-- cursor: ', '').trim()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab[Symbol.asyncDispose]()
  }
}

/** The units that a message of the program names; undefined: it was not said. */
export function unitsIn(stderr: string, words: string): readonly string[] | undefined {
  return stderr
    .split('\n')
    .find(line => line.startsWith(`${words}: `))
    ?.slice(words.length + 2)
    .split(', ')
}
