import { describeEnding, type System, succeeded } from '../system/system.ts'
import type { Finding } from './gate-answer.ts'

const PROPERTIES = 'Id,LoadState,ActiveState,SubState,Result'

interface UnitState {
  readonly name: string
  readonly load: string
  readonly active: string
  readonly sub: string
  readonly result: string
}

/** Whether all units are active. A unit that systemd does not know is unhealthy: the gate asks for it. */
export async function probeUnits(
  system: System,
  units: readonly string[],
  deadlineMs: number,
  signal: AbortSignal,
): Promise<Finding> {
  const args = ['--no-ask-password', '--no-pager', 'show', `--property=${PROPERTIES}`, '--', ...units]
  const { ending, stdout, stderr, truncated } = await system.run('systemctl', args, { deadlineMs, signal })
  if (!succeeded(ending)) {
    return {
      verdict: 'unavailable',
      reason: `systemd could not be asked: ${describeEnding('systemctl', ending)}`,
      output: stderr,
    }
  }
  const states = parseUnits(units, stdout)
  if (truncated || states === undefined) {
    return { verdict: 'unavailable', reason: 'the answer of systemctl cannot be read', output: stdout }
  }
  const bad = states.filter(({ active }) => active !== 'active')
  return bad.length === 0
    ? { verdict: 'healthy', reason: `active: ${units.join(', ')}` }
    : { verdict: 'unhealthy', reason: bad.map(describe).join('; ') }
}

/** The states in the order that was asked for: systemctl answers with one block a unit. */
function parseUnits(units: readonly string[], text: string): readonly UnitState[] | undefined {
  const blocks = text.trim().split(/\n\n+/)
  if (blocks.length !== units.length) return undefined
  const states = blocks.map((block, index) => {
    const fields = new Map(
      block.split('\n').map(line => {
        const at = line.indexOf('=')
        return [line.slice(0, at), line.slice(at + 1)] as const
      }),
    )
    const [load, active] = [fields.get('LoadState'), fields.get('ActiveState')]
    if (load === undefined || active === undefined) return undefined
    const [sub = '', result = ''] = [fields.get('SubState'), fields.get('Result')]
    return { name: units[index] ?? '', load, active, sub, result }
  })
  const known = states.filter(state => state !== undefined)
  return known.length === units.length ? known : undefined
}

function describe({ name, load, active, sub, result }: UnitState): string {
  if (load === 'not-found') return `${name} does not exist`
  if (load !== 'loaded' && load !== '') return `${name} is ${load}`
  const why = result === '' || result === 'success' ? '' : `, result ${result}`
  return `${name} is ${active} (${sub}${why})`
}
