/** The text of anything thrown, for logs and for people. */
export function reasonOf(error: unknown): string {
  // Node's own, of a name with several addresses none of which answers, says nothing itself.
  if (error instanceof AggregateError && error.message === '') return error.errors.map(reasonOf).join('; ')
  return error instanceof Error ? error.message : String(error)
}

/** Whether an error carries this code of Node or of the operating system, such as ENOENT. */
export function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
