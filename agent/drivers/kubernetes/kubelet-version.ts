/** "v1.34.3+k3s1" is 1.34.3. */
export function isVersion(said: string, wanted: string): boolean {
  return bareVersion(said) === bareVersion(wanted)
}

/** Without the v before it and the distribution's own part behind it. */
export function bareVersion(text: string): string {
  return text.replace(/^v/, '').replace(/[+-].*$/, '')
}
