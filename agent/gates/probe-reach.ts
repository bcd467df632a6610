import { describeEnding, type RunResult, type System } from '../system/system.ts'
import type { Finding, Verdict } from './gate-answer.ts'

/** Whether all of them answer an echo request, one each, asked side by side. */
export async function probeReach(
  system: System,
  hosts: readonly string[],
  deadlineMs: number,
  signal: AbortSignal,
): Promise<Finding> {
  const answers = await Promise.all(
    hosts.map(async host => {
      const seconds = Math.max(1, Math.floor(deadlineMs / 1_000))
      const args = ['-n', '-q', '-c', '1', '-W', String(seconds), '-w', String(seconds), '--', host]
      return {
        host,
        ...judgePing(await system.run('ping', args, { deadlineMs: deadlineMs + 1_000, signal })),
      }
    }),
  )
  const of = (verdict: Verdict) => answers.filter(answer => answer.verdict === verdict)
  const said = (some: typeof answers) => some.map(({ host, reason }) => `${host} ${reason}`).join('; ')
  const output = answers.map(answer => answer.output).join('')
  if (of('unhealthy').length > 0) return { verdict: 'unhealthy', reason: said(of('unhealthy')), output }
  if (of('unavailable').length > 0) return { verdict: 'unavailable', reason: said(of('unavailable')), output }
  return { verdict: 'healthy', reason: `reached: ${hosts.join(', ')}` }
}

/** ping(8): 0 an answer came, 1 none did, 2 anything else, such as a name that cannot be looked up. */
function judgePing({ ending, stdout, stderr }: RunResult): Finding & { readonly output: string } {
  const output = `${stdout}${stderr}`
  if (ending.kind === 'exited' && ending.exitCode === 0)
    return { verdict: 'healthy', reason: 'answers', output }
  if (ending.kind === 'exited' && ending.exitCode === 1) {
    return { verdict: 'unhealthy', reason: 'does not answer', output }
  }
  // An address to which there is no way is an answer about the network; the rest is about ping.
  if (ending.kind === 'exited' && /network is unreachable|no route to host/i.test(stderr)) {
    return { verdict: 'unhealthy', reason: 'cannot be reached: there is no route', output }
  }
  if (ending.kind === 'timed-out') return { verdict: 'unhealthy', reason: 'does not answer', output }
  return { verdict: 'unavailable', reason: `could not be asked: ${describeEnding('ping', ending)}`, output }
}
