import { pause } from '../../shared/lifecycle.ts'
import { readBootTime } from '../safety/uptime.ts'
import { describeEnding, type RunResult, type System, succeeded } from '../system/system.ts'
import { controlGroupOf, SLICE } from './control-group.ts'
import type {
  AgentUnit,
  RebootHow,
  UnitLine,
  UnitOutput,
  UnitSpec,
  UnitStart,
  UnitState,
  Units,
} from './units.ts'

const DEADLINE_MS = 60_000
const POLL_MS = 100
/** Between SIGTERM and SIGKILL to a unit's control group. */
const STOP_SECONDS = 30
/** What systemd started anew so often, and lately, dies again and again; at a boot many a service needs a second start. */
const MANY_RESTARTS = 3
const LATELY_MS = 600_000
export const AGENT_UNIT = 'muster-agent.service'

/**
 * Units by systemd-run and systemctl. Output goes to the journal, which belongs to nobody who could close it. Never
 * --pipe, --wait or --scope: all three tie the unit to whoever asked.
 */
export function systemdUnits(system: System): Units {
  const run = (command: string, args: readonly string[], deadlineMs = DEADLINE_MS) =>
    system.run(command, args, { deadlineMs })
  const systemctl = (...args: string[]) => run('systemctl', ['--no-ask-password', '--no-pager', ...args])

  const launch = async (unit: UnitSpec, more: readonly string[]): Promise<UnitStart> => {
    const result = await run('systemd-run', [
      ...['--no-block', '--quiet', '--no-ask-password', '--collect', '--service-type=exec'],
      ...[`--unit=${unit.name}`, `--slice=${SLICE}`],
      `--description=${unit.description}`,
      // It is stopped by stopping it, and only what is wholly gone is stopped.
      ...['--property=KillMode=control-group', `--property=TimeoutStopSec=${STOP_SECONDS}`],
      ...['--property=StandardOutput=journal', '--property=StandardError=journal'],
      // What a full machine must not end first is the way back.
      '--property=OOMScoreAdjust=0',
      ...(unit.before ? [`--property=ExecStartPre=${words(unit.before)}`] : []),
      ...(unit.after ? [`--property=ExecStopPost=${words(unit.after)}`] : []),
      ...(unit.restarts
        ? [
            ...['--property=Restart=on-abnormal', '--property=RestartSec=2s'],
            `--property=RestartForceExitStatus=${unit.restarts.alsoOnExitCode}`,
          ]
        : []),
      ...Object.entries(unit.env ?? {}).map(([name, value]) => `--setenv=${name}=${value}`),
      ...more,
      '--',
      ...unit.command,
    ])
    return startOf('systemd-run', result)
  }

  const state = async (name: string): Promise<UnitState> => {
    const result = await systemctl('show', '--property=LoadState,ActiveState,Job', `${name}.service`)
    if (!succeeded(result.ending)) return { kind: 'unknown', reason: saidBy('systemctl show', result) }
    const fields = properties(result.stdout)
    const active = fields.get('ActiveState')
    if (fields.get('LoadState') !== 'not-found') {
      if (active !== 'inactive' && active !== 'failed') return { kind: 'running' }
      // It was started and has not begun: a busy systemd takes what is queued later than what it is asked.
      if ((fields.get('Job') ?? '') !== '') return { kind: 'running' }
    }
    // What not even SIGKILL ended (it hangs in the kernel) is given up by systemd, and yet may go on.
    const group = await controlGroupOf(system, name)
    switch (group.kind) {
      case 'empty':
        return { kind: 'gone' }
      case 'unknown':
        return { kind: 'unknown', reason: group.reason }
      case 'populated':
        return { kind: 'running' }
    }
  }

  /** Which of the services that wait to be started again failed. One that ended well, and is to run anew, did not. */
  const failedMain = async (names: readonly string[]): Promise<readonly string[] | undefined> => {
    if (names.length === 0) return []
    const result = await systemctl('show', '--property=Id,ExecMainStatus', '--', ...names)
    if (!succeeded(result.ending) || result.truncated) return undefined
    return blocksOf(result.stdout).flatMap(fields => {
      const name = fields.get('Id')
      return name !== undefined && (fields.get('ExecMainStatus') ?? '0') !== '0' ? [name] : []
    })
  }

  const whatIsLeft = async (name: string, asked: RunResult): Promise<string> => {
    const group = await controlGroupOf(system, name)
    if (group.kind === 'populated' && group.processes.length > 0) {
      return `${group.processes.join(', ')} does not end`
    }
    return group.kind === 'unknown' ? group.reason : saidBy('systemctl stop', asked)
  }

  return {
    kind: 'systemd',
    start: unit => launch(unit, []),
    startTimer: ({ afterMs, ...unit }) =>
      launch(unit, [
        `--on-active=${Math.max(1, Math.ceil(afterMs))}ms`,
        '--timer-property=AccuracySec=100ms',
      ]),
    async stopTimer(name) {
      await systemctl('stop', `${name}.timer`)
    },
    async startLoaded(name) {
      return startOf('systemctl start', await systemctl('start', '--no-block', `${name}.service`))
    },
    async stop(name, deadlineMs) {
      const until = performance.now() + deadlineMs
      const asked = await systemctl('stop', '--no-block', `${name}.service`)
      for (;;) {
        const now = await state(name)
        if (now.kind === 'gone') return { kind: 'gone' }
        if (performance.now() >= until) {
          const why = now.kind === 'unknown' ? now.reason : await whatIsLeft(name, asked)
          return { kind: 'alive', reason: `${name}.service is still there: ${why}` }
        }
        await pause(POLL_MS)
      }
    },
    state,
    async output(name, cursor, complete) {
      // What a unit said last may still be on its way to the journal when the unit is gone.
      if (complete) await run('journalctl', ['--sync'])
      return await readJournal(system, name, cursor)
    },
    async failed() {
      const result = await systemctl(
        'list-units',
        ...['--state=failed,auto-restart', '--all', '--plain', '--no-legend', '--full'],
      )
      if (!succeeded(result.ending) || result.truncated) return undefined
      const { failed, waiting } = unitsOf(result.stdout)
      const restarting = await failedMain(waiting)
      return restarting && new Set([...failed, ...restarting])
    },
    async unsteady() {
      const result = await run('systemctl', [
        ...['--no-ask-password', '--no-pager', 'show', '--all'],
        ...['--property=Id,NRestarts,ExecMainStartTimestampMonotonic', '--', '*.service'],
      ])
      if (!succeeded(result.ending) || result.truncated) return undefined
      const { uptimeMs } = await readBootTime(system)
      const unsteady = blocksOf(result.stdout).flatMap(fields => {
        const name = fields.get('Id')
        const startedMs = Number(fields.get('ExecMainStartTimestampMonotonic') ?? 0) / 1_000
        const restarts = Number(fields.get('NRestarts') ?? 0)
        return name !== undefined && restarts >= MANY_RESTARTS && uptimeMs - startedMs <= LATELY_MS
          ? [name]
          : []
      })
      return new Set(unsteady)
    },
    async jobs() {
      const result = await systemctl('list-jobs', '--plain', '--no-legend', '--full')
      return result.stdout
        .split('\n')
        .map(line => line.trim().split(/\s+/))
        .flatMap(([, unit, type, how]) => (unit && type ? [`${unit} ${type} (${how ?? 'waiting'})`] : []))
        .slice(0, 20)
    },
    async isActive(name) {
      const result = await systemctl('is-active', '--quiet', name)
      return result.ending.kind === 'exited' ? result.ending.exitCode === 0 : undefined
    },
    async agentUnit() {
      const wanted = '--property=MainPID,ExecStart,FragmentPath,DropInPaths'
      const result = await systemctl('show', wanted, AGENT_UNIT)
      if (!succeeded(result.ending)) return { kind: 'unknown', reason: saidBy('systemctl show', result) }
      return readAgentUnit(properties(result.stdout))
    },
    async restartAgent() {
      return startOf('systemctl restart', await systemctl('restart', '--no-block', AGENT_UNIT))
    },
    async reboot(how) {
      return startOf('systemctl reboot', await systemctl('reboot', ...rebootWords(how)))
    },
  }
}

/** Since systemd 257 a lock of mode "block" (systemd-inhibit) is minded for root, too. */
function rebootWords(how: RebootHow | undefined): readonly string[] {
  switch (how) {
    case undefined:
      return ['--no-block']
    case 'past-locks':
      return ['--no-block', '--check-inhibitors=no']
    case 'force':
      return ['--force']
  }
}

function readAgentUnit(fields: ReadonlyMap<string, string>): AgentUnit {
  if (fields.get('MainPID') !== String(process.pid)) return { kind: 'not-ours' }
  const program = /^\{ path=(.+?) ; argv\[\]=/.exec(fields.get('ExecStart') ?? '')?.[1]
  if (program === undefined) return { kind: 'unknown', reason: `${AGENT_UNIT} names no program` }
  const files = `${fields.get('FragmentPath') ?? ''} ${fields.get('DropInPaths') ?? ''}`
  return { kind: 'unit', program, files: files.split(' ').filter(file => file !== '') }
}

function startOf(command: string, result: RunResult): UnitStart {
  if (succeeded(result.ending)) return { kind: 'started' }
  const said = saidBy(command, result)
  return /already (loaded|exists)|has a fragment file/i.test(said)
    ? { kind: 'taken' }
    : { kind: 'failed', reason: said }
}

function saidBy(command: string, { ending, stderr }: RunResult): string {
  const said = stderr.trim().split('\n').at(-1) ?? ''
  return said === '' ? describeEnding(command, ending) : `${command}: ${said.slice(0, 300)}`
}

/** A command line as unit files write it: every word quoted, with what systemd would expand taken literally. */
export function words(command: readonly string[]): string {
  return command
    .map(word => `"${word.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('$', '$$$$')}"`)
    .join(' ')
}

export function properties(text: string): ReadonlyMap<string, string> {
  return new Map(
    text.split('\n').flatMap(line => {
      const at = line.indexOf('=')
      return at > 0 ? [[line.slice(0, at), line.slice(at + 1)] as const] : []
    }),
  )
}

/** What `systemctl show` says of several units: one block each, with empty lines between them. */
function blocksOf(text: string): readonly ReadonlyMap<string, string>[] {
  return text.split(/\n\s*\n/).map(properties)
}

/**
 * Names of systemctl's list, by what their units are in: a mark in front of a failed one is none of its name. What dies
 * and is started again and again is never "failed", but waits most of the time for its next start.
 */
function unitsOf(text: string): { readonly failed: readonly string[]; readonly waiting: readonly string[] } {
  const rows = text
    .split('\n')
    .map(line => line.replace(/^[^A-Za-z0-9-]+/, '').split(/\s+/))
    .flatMap(([name = '', , , sub]) => (name === '' ? [] : [{ name, waits: sub === 'auto-restart' }]))
  const names = (waits: boolean) => rows.filter(row => row.waits === waits).map(({ name }) => name)
  return { failed: names(false), waiting: names(true) }
}

async function readJournal(system: System, name: string, cursor: string | undefined): Promise<UnitOutput> {
  const result = await system.run(
    'journalctl',
    [
      ...['--no-pager', '--quiet', '--output=json', '--all'],
      '--output-fields=MESSAGE,SYSLOG_IDENTIFIER',
      ...(cursor === undefined ? [] : [`--after-cursor=${cursor}`]),
      `_SYSTEMD_UNIT=${name}.service`,
    ],
    { deadlineMs: DEADLINE_MS, maxOutputBytes: 4 * 1024 * 1024 },
  )
  let last = cursor
  const lines: UnitLine[] = []
  for (const line of result.stdout.split('\n')) {
    const entry = parseEntry(line)
    if (!entry) continue
    last = entry.cursor
    lines.push(...entry.lines)
  }
  return { lines, cursor: last }
}

function parseEntry(
  line: string,
): { readonly cursor: string; readonly lines: readonly UnitLine[] } | undefined {
  if (!line.startsWith('{')) return undefined
  try {
    const fields = new Map<string, unknown>(Object.entries(JSON.parse(line)))
    const cursor = fields.get('__CURSOR')
    if (typeof cursor !== 'string') return undefined
    const identifier = fields.get('SYSLOG_IDENTIFIER')
    const message = fields.get('MESSAGE')
    // What is no text comes as its bytes.
    const text = Array.isArray(message)
      ? Buffer.from(message.filter(byte => typeof byte === 'number')).toString('utf8')
      : typeof message === 'string'
        ? message
        : ''
    const named = typeof identifier === 'string' ? identifier : ''
    return { cursor, lines: text.split('\n').map(part => ({ text: part, identifier: named })) }
  } catch {
    return undefined // cut off in the middle by the bound
  }
}
