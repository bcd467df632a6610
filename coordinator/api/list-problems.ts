/** Problems that are written out, each to this length; the others are counted. A status travels in one header. */
const SHOWN_PROBLEMS = 20
const MAX_PROBLEM_CHARS = 250

/** Several problems as the text of one status. */
export function listProblems(problems: readonly string[]): string {
  const more = problems.length - SHOWN_PROBLEMS
  const shown = problems
    .slice(0, SHOWN_PROBLEMS)
    .map(text => text.slice(0, MAX_PROBLEM_CHARS))
    .join('\n')
  return more > 0 ? `${shown}\nand ${more} more` : shown
}
