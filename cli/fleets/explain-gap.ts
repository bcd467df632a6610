/**
 * Why a revision that was signed elsewhere is not the next of a coordinator, and the way out. `there` is the newest that the
 * coordinator has.
 */
export function explainGap({
  number,
  predecessor,
  there,
}: {
  readonly number: number
  /** Its digest. */
  readonly predecessor: string
  readonly there: number
}): string {
  const after = `revision ${number} follows revision ${number - 1} (${predecessor})`
  const anew =
    `publish its directory anew from where this coordinator is reached (--accept-older), or carry last-revision.bin of an operator ` +
    `who saw revision ${there} into \`fleets/ID\` of the one who signs, and sign again`
  if (there < number - 1) {
    const missing = there === number - 2 ? `${number - 1}` : `${there + 1} to ${number - 1}`
    return `${after}, and the newest here is ${there}: import ${missing} first. If nobody has that file any more, ${anew}`
  }
  if (there === number - 1) {
    return `${after}, and revision ${there} here is another one: two were signed under one number. Find out who did; then ${anew}`
  }
  return `${after}, and the newest here is ${there} already: somebody published meanwhile. Look at it with \`muster diff\`; then ${anew}`
}
