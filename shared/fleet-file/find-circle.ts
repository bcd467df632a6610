/** Names of a circle in the order of its edges; undefined: there is none. */
export function findCircle(edges: ReadonlyMap<string, readonly string[]>): readonly string[] | undefined {
  const done = new Set<string>()
  for (const start of edges.keys()) {
    // Depth first, without recursion: a fleet may hold ten thousand hosts in one row.
    const path: { readonly name: string; next: number }[] = [{ name: start, next: 0 }]
    const onPath = new Set([start])
    while (path.length > 0) {
      const top = path.at(-1)
      if (!top) break
      const to = edges.get(top.name)?.[top.next]
      top.next += 1
      if (to === undefined) {
        path.pop()
        onPath.delete(top.name)
        done.add(top.name)
      } else if (onPath.has(to)) {
        return path.slice(path.findIndex(({ name }) => name === to)).map(({ name }) => name)
      } else if (!done.has(to) && edges.has(to)) {
        path.push({ name: to, next: 0 })
        onPath.add(to)
      }
    }
  }
  return undefined
}
