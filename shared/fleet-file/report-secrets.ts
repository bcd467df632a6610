import type { Path, Report } from './problem.ts'
import { findSecret, secretCure } from './secrets.ts'
import type { TomlNode, TomlTable, TomlText } from './toml-document.ts'

/** Calls for each text in the tree, keys' own names left out. */
function eachText(node: TomlNode, path: Path, visit: (text: TomlText, path: Path) => void): void {
  if (node.kind === 'text') visit(node, path)
  else if (node.kind === 'array') {
    for (const [index, item] of node.items.entries()) eachText(item, [...path, String(index)], visit)
  } else if (node.kind === 'table') {
    for (const [key, entry] of node.entries) eachText(entry.value, [...path, key], visit)
  }
}

/** Reports everything in the file, comments included, that looks like a secret. Never shows it. */
export function reportSecrets(text: string, root: TomlTable | undefined, report: Report): void {
  const told = new Set<number>()
  if (root !== undefined) {
    eachText(root, [], (node, path) => {
      const secret = findSecret(node.value)
      if (secret === undefined) return
      for (let line = node.at.line; line <= node.lastLine; line += 1) told.add(line)
      report(node.at, path, `this looks like ${secret.what}; ${secretCure}`)
    })
  }
  for (const [index, line] of text.split('\n').entries()) {
    const secret = told.has(index + 1) ? undefined : findSecret(line)
    if (secret !== undefined) {
      report(
        { line: index + 1, column: secret.index + 1 },
        [],
        `this looks like ${secret.what}; ${secretCure}`,
      )
    }
  }
}
