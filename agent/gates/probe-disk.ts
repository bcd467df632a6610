import { withDeadline } from '../../shared/lifecycle.ts'
import type { GateProbe } from '../../shared/revision/safety.ts'
import type { System } from '../system/system.ts'
import type { Finding } from './gate-answer.ts'

/** Whether enough is free on the file system of a folder. */
export async function probeDisk(
  system: System,
  { path, freeBytes }: Extract<GateProbe, { kind: 'disk' }>,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<Finding> {
  // A network file system whose server is gone never answers.
  const reading = await withDeadline(deadlineMs, signal, () => system.space(path))
  switch (reading.kind) {
    case 'missing':
      return { verdict: 'unavailable', reason: `${path} does not exist` }
    case 'unreadable':
      return { verdict: 'unavailable', reason: `${path} cannot be asked: ${reading.code}` }
    case 'space': {
      const words = `${reading.freeBytes} of ${freeBytes} bytes free on ${path}`
      return reading.freeBytes >= freeBytes
        ? { verdict: 'healthy', reason: words }
        : { verdict: 'unhealthy', reason: `only ${words}` }
    }
  }
}
