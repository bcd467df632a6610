import { type CelInput, type CelValue, isCelMap } from '@bufbuild/cel'
import type { Expr } from './expression-bounds.ts'

/** A variable and names of fields after it, as in `facts.os.kernel`. */
export interface PlainPath {
  readonly variable: string
  readonly fields: readonly string[]
}

/** The path that an expression is, and nothing but that; else undefined. */
export function plainPath(expr: Expr | undefined): PlainPath | undefined {
  const fields: string[] = []
  let node = expr
  while (node?.exprKind.case === 'selectExpr') {
    const { operand, field, testOnly } = node.exprKind.value
    if (testOnly) return undefined
    fields.unshift(field)
    node = operand
  }
  if (node?.exprKind.case !== 'identExpr' || fields.length === 0) return undefined
  return { variable: node.exprKind.value.name, fields }
}

/** What stands there; undefined where something is no map or missing, of which CEL itself has to speak. */
export function followPath(value: CelInput | undefined, fields: readonly string[]): CelValue | undefined {
  let at: unknown = value
  for (const field of fields) {
    if (!isCelMap(at)) return undefined
    at = at.get(field)
  }
  return at as CelValue | undefined // what a map of CEL holds
}
