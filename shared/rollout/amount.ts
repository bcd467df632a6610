/** A number of hosts, absolute or as a share of how many there are. */
export type Amount =
  | { readonly kind: 'number'; readonly number: number }
  | { readonly kind: 'percent'; readonly percent: number }

/** Reads "2" or "10%"; undefined when it is none. Never nothing: a budget of none would wait for ever. */
export function readAmount(text: string): Amount | undefined {
  const [, digits = '', sign] = /^([1-9][0-9]{0,4})(%?)$/.exec(text) ?? []
  if (digits === '') return undefined
  const value = Number(digits)
  if (sign !== '%') return { kind: 'number', number: value }
  return value <= 100 ? { kind: 'percent', percent: value } : undefined
}

/** How many of so many: a share is rounded down, and is at least one where there is any. */
export function countOf(amount: Amount, total: number): number {
  if (total <= 0) return 0
  const count = amount.kind === 'number' ? amount.number : Math.floor((amount.percent * total) / 100)
  return Math.min(total, Math.max(1, count))
}

export function amountText(amount: Amount): string {
  return amount.kind === 'number' ? String(amount.number) : `${amount.percent}%`
}
