/** Whether these arguments are meant for `runFactsChild`. */
export function isFactsChild(argv: readonly string[]): boolean {
  return argv[0] === 'facts' || argv[0] === 'rule'
}
