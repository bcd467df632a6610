// Rules of the house that no linter knows. Each prints file:line and the rule, and fails the run.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { top } from './set-up.mjs'

const RULES = [
  {
    rule: 'only the store opens transactions',
    pattern: /\.transaction\(\)/,
    except: /^coordinator\/store\/(store|migrate)(\.test)?\.ts$/,
  },
  {
    rule: 'randomness comes from node:crypto',
    pattern: /\bMath\.random\b/,
    except: /^coordinator\/enrolment\/bounds\.test\.ts$/,
  },
  {
    rule: 'no plaintext client or server of gRPC outside tests and unix sockets',
    pattern: /create(Insecure)\(/,
    except:
      /(^test\/|\.test\.ts|\/local-listener\.ts|\/local-coordinator\.ts|\/local-client\.ts|^agent\/drivers\/cri\/runtime-client\.ts|^cli\/connect\.ts|^agent\/local\/)/,
  },
  {
    rule: 'programs end by themselves: set process.exitCode',
    pattern: /\bprocess\.exit\(/,
    except: /^(scripts|test)\//,
  },
  {
    rule: 'only shared/x509 imports node-forge',
    pattern: /from 'node-forge'/,
    except: /^(shared\/x509\/|scripts\/check-rules)/,
  },
  {
    rule: 'what only tests use is imported by tests alone',
    pattern: /from '[^']*\/testing\//,
    except: /(^test\/|\/testing\/|\.test\.ts$)/,
  },
  {
    // In a program in parts a CommonJS package that is imported so is its default export and nothing else.
    rule: 'packages are imported statically, by a file of ours that is imported when it is needed',
    pattern: /\bimport\('(?!\.|node:)/,
    except: /(^test\/|^scripts\/|\.test\.ts$)/,
  },
  {
    rule: 'TODO belongs into the tracker',
    pattern: /\b(TODO|FIXME|XXX)\b/,
    except: /^scripts\/check-rules\.mjs$/,
  },
]

const folders = ['shared', 'coordinator', 'agent', 'cli', 'scripts', 'test', 'bin', 'nix']
const problems = []
for (const folder of folders) {
  let entries = []
  try {
    entries = readdirSync(join(top, folder), { recursive: true, withFileTypes: true })
  } catch {
    continue // not there yet
  }
  for (const entry of entries) {
    if (!entry.isFile() || !/\.(ts|mjs|nix|sh)$/.test(entry.name)) continue
    const path = join(entry.parentPath ?? entry.path, entry.name).slice(top.length + 1)
    if (path.startsWith('shared/gen/')) continue
    readFileSync(join(top, path), 'utf8')
      .split('\n')
      .forEach((line, index) => {
        for (const { rule, pattern, except } of RULES) {
          if (pattern.test(line) && !except.test(path)) problems.push(`${path}:${index + 1}: ${rule}`)
        }
      })
  }
}
for (const problem of problems) console.error(problem)
if (problems.length > 0) process.exitCode = 1
