import { cpu } from 'systeminformation'
import { cleanText, isPlaceholder } from './clean-values.ts'

/**
 * The only user of systeminformation, which is loaded only in the short-lived child, only on a real machine and only
 * when neither the kernel nor lscpu names the processor. Of all it offers this is what it tells truly: it takes a
 * container for the machine's model, skips disks without a model, and runs a shell for most of the rest.
 */
export async function describeCpuBySystemInformation(): Promise<{ model?: string; vendor?: string }> {
  const { brand, manufacturer } = await cpu()
  const model = told(brand)
  const vendor = told(manufacturer)
  return { ...(model === undefined ? {} : { model }), ...(vendor === undefined ? {} : { vendor }) }
}

function told(text: unknown): string | undefined {
  const value = typeof text === 'string' ? cleanText(text) : undefined
  return value === undefined || isPlaceholder(value) ? undefined : value
}
