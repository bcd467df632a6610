/** Put in by scripts/build.mjs; not there in source that runs unbundled. */
declare const MUSTER_SOURCE_SECONDS: number | undefined

/** A time that was over when this program was built: a clock that stands before it is wrong. Undefined: not known. */
export function buildTime(): Date | undefined {
  if (typeof MUSTER_SOURCE_SECONDS !== 'number') return undefined
  return new Date(MUSTER_SOURCE_SECONDS * 1_000)
}
