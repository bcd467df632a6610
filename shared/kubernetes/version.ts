/** A version of Kubernetes; what distributions append, such as "+k3s1", does not matter here. */
export interface Version {
  readonly major: number
  readonly minor: number
  readonly patch: number
}

/** Reads "1.34.3", "v1.34.3" or "v1.34.3+k0s.0"; undefined: it is none. */
export function parseVersion(text: string): Version | undefined {
  const parts = /^v?(\d{1,4})\.(\d{1,4})\.(\d{1,4})(?:[-+][0-9A-Za-z.+-]{1,64})?$/.exec(text)
  if (!parts) return undefined
  return { major: Number(parts[1]), minor: Number(parts[2]), patch: Number(parts[3]) }
}

/** Minors that `a` is ahead of `b`; another major is further than any minor. */
export function minorsAhead(a: Version, b: Version): number {
  return a.major === b.major ? a.minor - b.minor : (a.major - b.major) * 1000
}

/** Negative: `a` is older. */
export function compareVersions(a: Version, b: Version): number {
  return minorsAhead(a, b) || a.patch - b.patch
}

export function versionText({ major, minor, patch }: Version): string {
  return `${major}.${minor}.${patch}`
}
