import type { Target } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { readSafety as readMessage, type Safety } from '../../shared/revision/safety.ts'

/** How a change to this target is proved. The target is one that `readTarget` took, so its safety is good. */
export function readSafety(target: Target): Safety {
  const reading = readMessage(target.safety)
  if (reading.kind === 'refused')
    throw new Error(`a target that was taken has a bad safety: ${reading.reason}`)
  return reading.safety
}
