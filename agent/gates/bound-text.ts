import { BoundedOutput } from '../system/bounded-output.ts'
import { MAX_OUTPUT_BYTES } from './gate-answer.ts'

/** The beginning and the end of a text that is too long. */
export function boundText(text: string): string {
  const bounded = new BoundedOutput(MAX_OUTPUT_BYTES)
  bounded.push(Buffer.from(text))
  return bounded.text()
}
