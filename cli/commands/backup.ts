import { lstat, open, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { status } from '@grpc/grpc-js'
import { syncDirectory } from '../../shared/durable-file.ts'
import { hasCode } from '../../shared/errors.ts'
import { escapeText } from '../../shared/escape.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import type { Cli } from '../cli.ts'
import { withCoordinator } from '../connect.ts'
import { formatBytes } from '../duration.ts'
import { CliError } from '../exit-codes.ts'
import type { Format } from '../output/format.ts'
import { startProgress } from '../output/progress.ts'
import { showResult } from '../output/show-result.ts'

const CHUNK_BYTES = 64 * 1024

/** Fetches a copy of everything the coordinator keeps. The file appears whole or not at all. */
export async function backup(
  cli: Cli,
  file: string,
  { output }: { readonly output?: Format | undefined },
): Promise<void> {
  if (await isThere(file)) {
    throw new CliError('conflict', `${file}: is there already; a backup never replaces another`)
  }
  const partial = `${file}.partial`
  await withCoordinator(cli, async ({ client, call }) => {
    const handle = await openNew(file, partial)
    let bytes = 0
    using progress = startProgress(cli, 'backup')
    try {
      for await (const { chunk } of client.backup({}, call)) {
        await handle.appendFile(chunk)
        bytes += chunk.length
        progress.update(formatBytes(bytes))
      }
      if (cli.signal.aborted) throw new CliError('interrupted', 'stopped; no backup was written')
      if (bytes === 0) throw new CliError('error', 'the coordinator sent an empty copy')
      await handle.sync()
    } catch (error) {
      await handle.close()
      await rm(partial, { force: true })
      throw error
    }
    await handle.close()
    await rename(partial, file)
    await syncDirectory(dirname(file))
    progress.end()
    await showResult(
      cli.io,
      'backup',
      { file, bytes },
      output,
      () =>
        `${escapeText(file)}: ${formatBytes(bytes)}; it holds the keys of the coordinator's authority, so keep it as you keep those\n`,
    )
  })
}

async function openNew(file: string, path: string) {
  try {
    return await open(path, 'wx', 0o600)
  } catch (error) {
    if (hasCode(error, 'EEXIST')) {
      throw new CliError(
        'conflict',
        `${path}: is there already, from a backup that runs or was cut off; remove it`,
      )
    }
    if (hasCode(error, 'ENOENT')) throw new CliError('notFound', `${file}: its folder does not exist`)
    throw error
  }
}

async function isThere(file: string): Promise<boolean> {
  try {
    await lstat(file)
    return true
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false
    throw error
  }
}

async function sizeOf(file: string): Promise<number> {
  try {
    const info = await stat(file)
    if (!info.isFile()) throw new CliError('error', `${file}: is no file`)
    return info.size
  } catch (error) {
    if (hasCode(error, 'ENOENT')) throw new CliError('notFound', `${file}: no such file`)
    throw error
  }
}

/** Puts a copy in place of what the coordinator has. */
export async function restore(
  cli: Cli,
  file: string,
  { yes, output }: { readonly yes?: boolean | undefined; readonly output?: Format | undefined },
): Promise<void> {
  const size = await sizeOf(file)
  if (!yes) {
    throw new CliError(
      'refused',
      `this replaces the store, the authority and the revisions of the coordinator by those of ${file} (${formatBytes(size)}); ` +
        'what happened since that backup is forgotten. Say --yes to do it.',
    )
  }
  await withCoordinator(cli, async ({ client, call }) => {
    using progress = startProgress(cli, 'restore')
    const chunks = (async function* () {
      const handle = await open(file, 'r')
      try {
        let sent = 0
        for (;;) {
          const { bytesRead, buffer } = await handle.read(
            Buffer.allocUnsafe(CHUNK_BYTES),
            0,
            CHUNK_BYTES,
            sent,
          )
          if (bytesRead === 0) return
          sent += bytesRead
          progress.update(`${formatBytes(sent)} of ${formatBytes(size)}`)
          yield { chunk: buffer.subarray(0, bytesRead) }
        }
      } finally {
        await handle.close()
      }
    })()
    const { summary } = await client.restore(chunks, call).catch((error: unknown) => {
      // The command was written as it should be; it is the file that is none, or damaged.
      if (!(error instanceof RpcError && error.code === status.INVALID_ARGUMENT)) throw error
      throw new CliError('error', `${escapeText(file)}: ${escapeText(error.message)}`, { cause: error })
    })
    progress.end()
    await showResult(cli.io, 'restore', { file, summary }, output, () => `${escapeText(summary)}\n`)
  })
}
