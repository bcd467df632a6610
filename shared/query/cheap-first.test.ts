import { celEnv, isCelError, parse, plan } from '@bufbuild/cel'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { cheapFirst } from './cheap-first.ts'
import { childrenOf, type Expr } from './expression-bounds.ts'

/** The kinds of the operands of the outermost chain, in their order. */
function operandKinds(text: string): (string | undefined)[] {
  const { expr } = parse(text)
  cheapFirst(expr)
  const kinds = (node: Expr | undefined) =>
    node ? childrenOf(node).flatMap(child => child?.exprKind.case ?? []) : []
  return kinds(expr)
}

const LOOP = 'xs.exists(x, x > 1)'
const OPERANDS = [
  'true',
  'false',
  'n == 1',
  'n == 2',
  'm.missing',
  '1',
  LOOP,
  'xs.all(x, x > 1)',
  'xs.exists(x, m.a)',
]

describe('the order of what is evaluated', () => {
  test('is what does not loop first, and else that of the text', () => {
    expect(operandKinds(`${LOOP} && n == 1`)).toEqual(['callExpr', 'comprehensionExpr'])
    expect(operandKinds(`${LOOP} && n == 1 && m.a && true`)).toEqual([
      'callExpr',
      'selectExpr',
      'constExpr',
      'comprehensionExpr',
    ])
    expect(operandKinds(`${LOOP} || true`)).toEqual(['constExpr', 'comprehensionExpr'])
    expect(operandKinds(`(${LOOP} || true) && n == 1 && m.a`)).toEqual(['callExpr', 'selectExpr', 'callExpr'])
  })

  test('changes no value, and makes no error of a value or the other way', () => {
    const operand = fc.constantFrom(...OPERANDS)
    const { text } = fc.letrec<{ text: string; pair: string }>(tie => ({
      text: fc.oneof({ maxDepth: 4 }, operand, tie('pair')),
      pair: fc
        .tuple(tie('text'), fc.constantFrom('&&', '||'), tie('text'))
        .map(([left, operator, right]) => `(${left} ${operator} ${right})`),
    }))
    const variables = { n: 1n, xs: [1n, 2n, 3n], m: { a: true } }
    const run = (expression: string, change: (expr: Expr | undefined) => void) => {
      const parsed = parse(expression)
      change(parsed.expr)
      const value = plan(celEnv(), parsed)(variables)
      return isCelError(value) ? 'an error' : value
    }
    fc.assert(
      fc.property(text, expression => {
        expect(run(expression, cheapFirst)).toBe(run(expression, () => {}))
      }),
      { numRuns: 500 },
    )
  })
})
