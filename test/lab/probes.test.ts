import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { waitUntil } from '../support/wait-until.ts'
import { type LabFleet, startLabFleet } from './lab-fleet.ts'
import { SET_UP_MS, whyNoLab } from './why-not.ts'

// Questions asked live of machines with a real systemd and a real journal.

const why = whyNoLab()
let fleet: LabFleet

/** What tries to be read as an option, a command, a pattern or a terminal's escape. */
const HOSTILE = String.raw`evil\x2d\x2dhost\x3b\x24\x28reboot\x29@a.service`

beforeAll(async () => {
  if (why !== undefined) return
  fleet = await startLabFleet({
    machines: ['olaf', 'nils'],
    agentConfig: { allow: ['apply', 'logs'] },
    coordinatorConfig: { heartbeatSeconds: 2 },
  })
}, SET_UP_MS)
afterAll(async () => await fleet?.[Symbol.asyncDispose]())

const olaf = () => fleet.machine('olaf')

/** Puts units onto a machine as somebody does who is root there. */
async function addUnit(name: string, text: string): Promise<void> {
  await olaf().writeFile(`/run/systemd/system/${name}`, text)
}

const once = (description: string, command: string) =>
  `[Unit]\nDescription=${description}\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=${command}\n`

interface Row {
  readonly host: string
  // biome-ignore lint/suspicious/noExplicitAny: tests look at parts of what came and fail where it is not as expected
  readonly [column: string]: any
}

/** What `muster query` says of one host, or of all. */
async function ask(...words: string[]): Promise<readonly Row[]> {
  return JSON.parse((await fleet.fleet.muster('query', ...words, '-o', 'json')).stdout)
}

describe.skipIf(why !== undefined)(`questions asked live of real machines ${why ?? ''}`, () => {
  it('are told units as systemd has them, by pattern too, and a failed one in what the node says of itself', async () => {
    await addUnit('probe-good.service', once('Works', '/bin/true'))
    await addUnit('probe-bad.service', once('Fails', '/bin/false'))
    await olaf().ok(['systemctl', 'daemon-reload'])
    await olaf().exec(['systemctl', 'start', 'probe-good.service', 'probe-bad.service'])
    const [row] = await ask("host == 'olaf'", '--probe', 'units=probe-*')
    expect(row?.['live.units']).toEqual([
      { name: 'probe-bad.service', load: 'loaded', active: 'failed', sub: 'failed', description: 'Fails' },
      { name: 'probe-good.service', load: 'loaded', active: 'active', sub: 'exited', description: 'Works' },
    ])
    const both = await ask('true', '--probe', 'units=muster-agent.service', '--probe', 'units=dbus.socket')
    expect(both.map(({ host }) => host).toSorted()).toEqual(['nils', 'olaf'])
    for (const { 'live.units': units } of both) {
      expect(units.map(({ name, active }: Row) => [name, active])).toEqual([
        ['dbus.socket', 'active'],
        ['muster-agent.service', 'active'],
      ])
    }
    // The same thing told by the node itself, once a minute.
    await waitUntil(
      'the failed unit',
      async () => {
        const rows = await ask("node.failedUnits.exists(u, u == 'probe-bad.service')")
        return rows.length === 1 && rows[0]?.host === 'olaf' ? true : undefined
      },
      { timeoutMs: 120_000, everyMs: 1_000 },
    )
    await olaf().ok(['systemctl', 'reset-failed', 'probe-bad.service'])
  })

  it('have their bounds: more units than an answer holds are cut, and that is said', async () => {
    await addUnit('bulk@.target', '[Unit]\nDescription=One of many, instance %i\n')
    const many = Array.from({ length: 1_200 }, (_, at) => `bulk@${at}.target`)
    await olaf().ok(['systemctl', 'daemon-reload'])
    for (let at = 0; at < many.length; at += 200) {
      await olaf().ok(['systemctl', 'start', ...many.slice(at, at + 200)], { timeoutMs: 60_000 })
    }
    const words = ["host == 'olaf'", '--probe', 'units', '--deadline', '30s']
    const [row] = await ask(...words, '--select', 'live.units.size()', '--select', 'live.truncated')
    expect(row?.['live.units.size()']).toBeGreaterThan(500)
    expect(row?.['live.units.size()']).toBeLessThanOrEqual(1_000)
    expect(row?.['live.truncated']).toEqual(['units'])
    // Who looks at the list is told, too.
    const { stderr } = await fleet.fleet.muster('query', ...words)
    expect(stderr).toMatch(/units: .*more/)
    const [some] = await ask("host == 'olaf'", '--probe', 'units=bulk@11*.target')
    expect(some?.['live.units']).toHaveLength(111)
  })

  it('take a hostile name of a unit for a name, and show its text without its escapes', async () => {
    await addUnit(
      HOSTILE.replace('@a.', '@.'),
      once('\u001b[31mred\u001b[0m \u202egpj', '/bin/echo \u001b[2Jwiped'),
    )
    await olaf().ok(['systemctl', 'daemon-reload'])
    await olaf().ok(['systemctl', 'start', HOSTILE])
    const [row] = await ask("host == 'olaf'", '--probe', 'units=evil*')
    expect(row?.['live.units'].map(({ name, active }: Row) => [name, active])).toEqual([[HOSTILE, 'active']])
    const shown = await fleet.fleet.ok('query', "host == 'olaf'", '--probe', 'units=evil*')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that none of them is there is what is shown
    expect(shown).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u202e]/)
    expect(shown).toContain('red')
    const [logged] = await ask("host == 'olaf'", '--probe', `journal=${HOSTILE}`)
    expect(logged?.['live.journal'].some(({ text }: Row) => text.includes('wiped'))).toBe(true)
    // Patterns that are no unit find none; what is no name of one unit is asked of nobody's journal.
    for (const pattern of ['--host=root@nowhere', '$(reboot)', '../../etc/passwd', 'a b; reboot', '\u0000']) {
      const words = ["host == 'olaf'", '--probe', `units=${pattern}`]
      const { stdout } = await fleet.fleet
        .muster('query', ...words, '-o', 'json')
        .catch((error: Error) => ({ stdout: error.message }))
      if (pattern === '\u0000') expect(stdout).toMatch(/null bytes/)
      else expect(JSON.parse(stdout)[0]?.['live.units']).toEqual([])
    }
    for (const unit of ['*', '--vacuum-time=1s', '../olaf.service', 'a b', 'x;reboot']) {
      const refused = await fleet.fleet.muster('query', 'true', '--probe', `journal=${unit}`)
      expect(refused).toMatchObject({ code: 2, stdout: '' })
    }
    expect(await olaf().bootId()).not.toBe('')
  })

  it('read the newest lines of one unit alone, so many and so old as was asked, and cut what is too much', async () => {
    const script = [
      'for n in $(seq 1 3000); do echo "line $n"; done',
      `head -c 9000 /dev/zero | tr '\\0' y; echo`,
      `printf 'raw \\001\\377 end\\n'`,
      'echo "<3>it is bad"',
    ].join('\n')
    await olaf().writeFile('/root/chatter', `#!/bin/sh\n${script}\n`, '755')
    await addUnit('chatter.service', `${once('Says much', '/root/chatter')}LogRateLimitIntervalSec=0\n`)
    await addUnit('chatter-other.service', once('Says something else', '/bin/echo not asked for'))
    await olaf().ok(['systemctl', 'daemon-reload'])
    await olaf().ok(['systemctl', 'start', 'chatter.service', 'chatter-other.service'], { timeoutMs: 60_000 })
    await olaf().ok(['journalctl', '--sync'])
    const lines = async (...more: string[]) => {
      const [row] = await ask("host == 'olaf'", '--probe', 'journal=chatter', ...more)
      return row?.['live.journal'] as readonly Row[]
    }
    const few = await lines('--lines', '5')
    expect(few).toHaveLength(5)
    const texts = (await lines('--lines', '500')).map(({ text }) => text as string)
    expect(texts.length).toBeLessThanOrEqual(500)
    expect(texts.length).toBeGreaterThan(450)
    expect(texts.some(text => text.includes('not asked for'))).toBe(false)
    expect(texts).toContain('line 3000')
    expect(texts).not.toContain('line 1')
    const long = texts.find(text => text.startsWith('yyyy'))
    expect(long).toHaveLength(4_096)
    expect(long).toContain('characters, cut]')
    expect(texts.some(text => text.startsWith('raw '))).toBe(true)
    const bad = (await lines('--lines', '50')).find(({ text }) => text === 'it is bad')
    expect(bad).toMatchObject({ priority: 3, identifier: 'chatter' })
    expect(Math.abs(Date.parse(bad?.at) - Date.now())).toBeLessThan(600_000)
    await new Promise(resolve => setTimeout(resolve, 2_100))
    expect(await lines('--since', '1s')).toEqual([])
    expect(await lines('--since', '1h')).toHaveLength(50)
    // More than an answer holds: the newest of it, and it is said that there was more.
    await olaf().writeFile(
      '/root/flood',
      '#!/bin/sh\nfor n in $(seq 400); do head -c 3900 /dev/zero | tr \'\\0\' z; echo " $n"; done\n',
      '755',
    )
    await addUnit('flood.service', `${once('Floods', '/root/flood')}LogRateLimitIntervalSec=0\n`)
    await olaf().ok(['systemctl', 'daemon-reload'])
    await olaf().ok(['systemctl', 'start', 'flood.service'], { timeoutMs: 60_000 })
    await olaf().ok(['journalctl', '--sync'])
    const words = ["host == 'olaf'", '--probe', 'journal=flood', '--lines', '500']
    const last = "live.journal.exists(l, l.text.endsWith('400'))"
    const [row] = await ask(
      ...words,
      ...['--select', 'live.journal.size()', '--select', last, '--select', 'live.truncated'],
    )
    expect(row?.['live.truncated']).toEqual(['journal'])
    expect(row?.['live.journal.size()']).toBeGreaterThan(20)
    expect(row?.['live.journal.size()']).toBeLessThan(200)
    expect(row?.[last]).toBe(true)
  })

  it('find a port that something listens on, and how full the disks are', async () => {
    await addUnit(
      'listen.service',
      `[Service]\nExecStart=/usr/bin/python3 -c "import socket,time; s=socket.create_server(('127.0.0.1', 7321)); time.sleep(9999)"\n`,
    )
    await olaf().ok(['systemctl', 'daemon-reload'])
    await olaf().ok(['systemctl', 'start', 'listen.service'])
    await waitUntil('the port', async () => {
      const rows = await ask('live.ports.exists(p, p.port == 7321)', '--probe', 'ports')
      return rows.length === 1 && rows[0]?.host === 'olaf' ? true : undefined
    })
    const [row] = await ask("host == 'olaf'", '--probe', 'disks=/', '--probe', 'disks=/none')
    expect(row?.['live.disks']).toEqual([
      expect.objectContaining({ path: '/', error: '' }),
      expect.objectContaining({ path: '/none', error: 'not there' }),
    ])
    expect(Number(row?.['live.disks'][0].free)).toBeGreaterThan(0)
  })

  it('that systemd does not answer end in time: the node says so, and tells what else it was asked', async () => {
    olaf().signalSystemd('SIGSTOP')
    try {
      const began = Date.now()
      const words = ['query', "host == 'olaf'", '--deadline', '5s', '--probe', 'units', '--probe', 'ports']
      const { stdout, stderr, code } = await fleet.fleet.muster(...words, '-o', 'json')
      expect(Date.now() - began).toBeLessThan(15_000)
      expect(code, stderr).toBe(0)
      const [row] = JSON.parse(stdout)
      expect(row['live.ports'].length).toBeGreaterThan(0)
      expect(row['live.units']).toBeNull()
      expect(stderr).toMatch(/units.*(within|timed out|deadline)/)
    } finally {
      olaf().signalSystemd('SIGCONT')
    }
    await waitUntil('its answer again', async () => {
      const [row] = await ask("host == 'olaf'", '--probe', 'units=dbus.socket')
      return row?.['live.units']?.length === 1 ? true : undefined
    })
    // Nothing of the question that was given up is left.
    const left = await olaf().exec([
      'pgrep',
      '-f',
      '[s]ystemctl list-units --no-ask-password --no-pager --full --output=json --all',
    ])
    expect(left.stdout).toBe('')
  })

  it('name the silent: who was cut off a moment ago, and who is frozen, while the others answer', async () => {
    const nils = fleet.machine('nils')
    for (const [silence, wake] of [
      [() => nils.cutNetwork(), () => nils.healNetwork()],
      [
        () => nils.ok(['systemctl', 'kill', '--kill-who=main', '--signal=STOP', 'muster-agent.service']),
        () => nils.ok(['systemctl', 'kill', '--kill-who=main', '--signal=CONT', 'muster-agent.service']),
      ],
    ] as const) {
      await fleet.untilOnline('nils')
      await silence()
      try {
        const began = Date.now()
        const words = ['--deadline', '3s', '--probe', 'units=muster-agent.service', '-o', 'json']
        const { code, stdout, stderr } = await fleet.fleet.muster('query', 'true', ...words)
        expect(Date.now() - began).toBeLessThan(12_000)
        expect(code).toBe(7)
        expect(JSON.parse(stdout).map(({ host }: Row) => host)).toEqual(['olaf'])
        expect(stderr).toMatch(/silent: nils/)
      } finally {
        await wake()
      }
    }
    await fleet.untilOnline('nils')
    expect((await ask('true', '--probe', 'ports')).length).toBe(2)
  })
})
