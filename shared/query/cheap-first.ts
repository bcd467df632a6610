import { childrenOf, type Expr } from './expression-bounds.ts'

const CHAINS = ['_&&_', '_||_']

/**
 * Puts what loops behind what does not, within each `&&` and `||`: `facts.disks.exists(d, …) && facts.os.kernel == 'x'` looks at
 * the disks of those with that kernel alone. CEL gives the same value in any order, an error on one side included; which
 * reason is told where several operands err may change.
 */
export function cheapFirst(expr: Expr | undefined): void {
  const todo = [expr]
  while (todo.length > 0) {
    const node = todo.pop()
    if (node === undefined) continue
    if (node.exprKind.case === 'callExpr' && CHAINS.includes(node.exprKind.value.function)) {
      const call = node.exprKind.value
      const operands = operandsOf(call.function, call.args)
      call.args = operands.toSorted((a, b) => loopsIn(a) - loopsIn(b))
    }
    todo.push(...childrenOf(node))
  }
}

/** The operands of a chain of one operator, which the parser made into a tree of pairs. */
function operandsOf(operator: string, args: readonly Expr[]): Expr[] {
  return args.flatMap(arg =>
    arg.exprKind.case === 'callExpr' && arg.exprKind.value.function === operator
      ? operandsOf(operator, arg.exprKind.value.args)
      : [arg],
  )
}

function loopsIn(expr: Expr): number {
  let loops = 0
  const todo: (Expr | undefined)[] = [expr]
  while (todo.length > 0) {
    const node = todo.pop()
    if (node === undefined) continue
    if (node.exprKind.case === 'comprehensionExpr') loops += 1
    todo.push(...childrenOf(node))
  }
  return loops
}
