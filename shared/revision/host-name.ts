/** A host's or group's name as it stands in a manifest: one label of RFC 1123, lower case. */
export function isHostName(text: string): boolean {
  return /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(text)
}
