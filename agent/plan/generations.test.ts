import { describe, expect, test } from 'vitest'
import { type System, succeeded } from '../system/system.ts'
import { type Generations, readGenerations } from './generations.ts'
import { removeGenerations } from './remove-generations.ts'
import { PlanMachine, storePath } from './testing/plan-machine.ts'

const PROFILES = 'nix/var/nix/profiles'
const part = (value: string) => ({ kind: 'value', value })

async function read(system: System, root = '/'): Promise<Generations> {
  const reading = await readGenerations(system, root)
  if (reading.kind === 'unknown') throw new Error(reading.why)
  return reading.value
}

describe('the generations of a machine', () => {
  test('are the numbered links of the system profile, with what is booted, current and next', async () => {
    await using machine = await PlanMachine.make()
    const [one, two, ten] = [storePath('s', '1'), storePath('s', '2'), storePath('s', '3')]
    await machine.files({
      [`${PROFILES}/system`]: '-> system-10-link',
      [`${PROFILES}/system-1-link`]: `-> ${one}`,
      [`${PROFILES}/system-2-link`]: `-> ${two}`,
      [`${PROFILES}/system-10-link`]: `-> ${ten}`,
      [`${PROFILES}/default-1-link`]: `-> ${one}`,
      'run/current-system': `-> ${two}`,
      'run/booted-system': `-> ${one}`,
    })
    const found = await read(machine.system)
    expect(found.generations.map(({ number, path }) => [number, path])).toEqual([
      [1, part(one)],
      [2, part(two)],
      [10, part(ten)],
    ])
    expect(found).toMatchObject({
      profileNumber: 10,
      profile: part(ten),
      current: part(two),
      booted: part(one),
    })
    for (const { madeMs } of found.generations)
      expect(Math.abs(Date.now() - (madeMs ?? 0))).toBeLessThan(600_000)
  })

  test('are none on a machine that has none, and unknown where they cannot be read', async () => {
    await using machine = await PlanMachine.make()
    expect(await read(machine.system)).toMatchObject({
      generations: [],
      profileNumber: undefined,
      current: { kind: 'missing' },
    })
    await machine.files({ [PROFILES]: '-> profiles' }) // a link to itself
    expect(await readGenerations(machine.system, '/')).toMatchObject({ kind: 'unknown' })
  })

  test('lead to store paths: anything else is unknown', async () => {
    await using machine = await PlanMachine.make()
    await machine.files({
      [`${PROFILES}/system`]: '-> system-1-link',
      [`${PROFILES}/system-1-link`]: '-> ../somewhere',
      'run/current-system': '-> /tmp/x',
    })
    expect(await read(machine.system)).toMatchObject({
      generations: [{ number: 1, path: { kind: 'unknown' } }],
      profile: { kind: 'unknown' },
      current: { kind: 'unknown' },
    })
  })
})

describe('removing generations', () => {
  const remove = async (machine: PlanMachine, collectGarbage: boolean) => {
    const toplevel = await machine.toplevel('a')
    const bootDefault = `${machine.root}${toplevel}`
    await machine.files({ said: '' })
    const record = `echo "\${0##*/} $*" >> ${machine.root}/said`
    await machine.program('nix-env', record)
    await machine.program('nix-store', record)
    return {
      order: {
        system: machine.system,
        profile: '/nix/var/nix/profiles/system',
        remove: [1, 3].map(number => ({ number, path: { kind: 'missing' } as const, madeMs: 0 })),
        bootDefault,
        deadlineMs: 20_000,
        collectGarbage,
        runBoot: async (system: string) => {
          const run = await machine.system.run(`${system}/bin/switch-to-configuration`, ['boot'], {
            deadlineMs: 20_000,
          })
          return succeeded(run.ending) ? undefined : run.stderr.trim()
        },
      },
      boot: async (exit: number) => {
        await machine.script(
          `${toplevel}/bin/switch-to-configuration`,
          `${record}; echo "no room" >&2; exit ${exit}`,
        )
      },
      said: async () => {
        const reading = await machine.system.readFile('/said', 4096)
        return reading.kind === 'file' ? reading.bytes.toString('utf8').trim().split('\n') : reading.kind
      },
    }
  }

  test('deletes them, has the boot default clear the boot partition, then collects garbage', async () => {
    await using machine = await PlanMachine.make()
    const { order, boot, said } = await remove(machine, true)
    await boot(0)
    expect(await removeGenerations(order)).toEqual({ kind: 'removed', numbers: [1, 3] })
    expect(await said()).toEqual([
      'nix-env --profile /nix/var/nix/profiles/system --delete-generations 1 3',
      'switch-to-configuration boot',
      'nix-store --gc',
    ])
  })

  test('collects nothing when the boot loader could not be written: it may still name what would go', async () => {
    await using machine = await PlanMachine.make()
    const { order, boot, said } = await remove(machine, true)
    await boot(1)
    expect(await removeGenerations(order)).toEqual({
      kind: 'failed',
      step: 'boot',
      reason: 'no room',
    })
    expect(await said()).toHaveLength(2)
  })
})
