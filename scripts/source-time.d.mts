/** Seconds since 1970 that were over when the sources below a folder were as they are; undefined: nothing says so. */
export function sourceSeconds(
  folder: string,
  paths: readonly string[],
  environment: { readonly SOURCE_DATE_EPOCH?: string | undefined },
  nowMs: number,
): number | undefined
