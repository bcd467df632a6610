/**
 * The cause alone of what the library wraps in words of its own, where no connection could be made: the same for the same cause,
 * so without the time of the attempt, and without what only OpenSSL's own people read.
 */
export function whyNoConnection(details: string): string {
  const [, wrapped, note = ''] =
    /^No connection established\. Last error: (?:Error: )?([\s\S]*?)(?: \(\d{4}-[\d-]+T[\d:.]+Z\))?\. Resolution note: ?([\s\S]*)$/.exec(
      details,
    ) ?? []
  if (wrapped === undefined) return details
  const [, reason] = /^[0-9A-F]+:error:[0-9A-F]*:[^:]*:[^:]*:([^:]+):/.exec(wrapped) ?? []
  const cause = reason === undefined ? wrapped : `TLS: ${reason}`
  return (note === '' ? cause : `${cause} (${note})`).replaceAll(/\s+/g, ' ').trim()
}
