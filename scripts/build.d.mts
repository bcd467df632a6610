/** A digest over the names, sizes and times of all sources. */
export function sourceStamp(): Promise<string>
/** Whether dist/ was built from the sources as they are. */
export function isBuilt(): Promise<boolean>
/** Builds all programs into a folder, dist/ unless told otherwise. */
export function build(options?: {
  readonly out?: string
  readonly env?: { readonly SOURCE_DATE_EPOCH?: string | undefined }
}): Promise<void>
/** What every bundle is, for esbuild. */
export const bundled: {
  readonly bundle: true
  readonly platform: 'node'
  readonly target: string
  readonly format: 'esm'
  readonly logLevel: 'warning'
  readonly banner: { readonly js: string }
}
