import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export const top = join(import.meta.dirname, '../..')

/** Every page for people: those at the top, and all below docs. Paths are relative to the top. */
export function listPages(): readonly string[] {
  const below = readdirSync(join(top, 'docs'), { recursive: true, encoding: 'utf8' }).map(
    path => `docs/${path}`,
  )
  return [...readdirSync(top), ...below].filter(path => path.endsWith('.md')).sort()
}

export function readPage(path: string): string {
  return readFileSync(join(top, path), 'utf8')
}

/** A page without what stands in blocks of code. */
export function proseOf(text: string): string {
  return text.replace(/^( *)```[\s\S]*?^\1```$/gm, '')
}

/** The anchors that a page's headings get where Markdown is shown. */
export function anchorsOf(text: string): Set<string> {
  const headings = [...proseOf(text).matchAll(/^#{1,6} +(.+?) *$/gm)].map(([, heading = '']) => heading)
  return new Set(
    headings.map(heading =>
      heading
        .toLowerCase()
        .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
        .replace(/[^\p{L}\p{N}\s_-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  )
}

/** Targets of the links of a page. */
export function linksOf(text: string): string[] {
  const prose = proseOf(text).replace(/`[^`\n]*`/g, '')
  return [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = '']) => target)
}

/** The cells of a row of a table; undefined for any other line. */
export function cellsOf(line: string): string[] | undefined {
  if (!/^\|.*\|$/.test(line)) return undefined
  return line
    .slice(1, -1)
    .split(/(?<!\\)\|/)
    .map(cell => cell.trim())
}

export interface NamedTest {
  readonly page: string
  readonly line: number
  readonly file: string
  /** Undefined: only the file is named. */
  readonly title: string | undefined
}

/** The tests that a page names: a cell with nothing but a file's path, the next one being the title of a test in it. */
export function testsNamedIn(page: string, text: string): NamedTest[] {
  return text.split('\n').flatMap((content, index) => {
    const cells = cellsOf(content)
    const line = index + 1
    const whole = /^`([\w./-]+\.test\.ts)`$/
    if (!cells) {
      return [...content.matchAll(/`([\w./-]+\.test\.ts)`/g)].map(([, file = '']) => ({
        page,
        line,
        file,
        title: undefined,
      }))
    }
    return cells.flatMap((cell, at) =>
      [...cell.matchAll(/`([\w./-]+\.test\.ts)`/g)].map(([, file = '']) => ({
        page,
        line,
        file,
        title: whole.test(cell) ? cells[at + 1] : undefined,
      })),
    )
  })
}
