/**
 * What secrets look like. A fleet file is read by every node and lies in git for good, so a secret in it is not merely
 * untidy: whoever reads the tree holds it. No pattern may begin with an unbounded repetition, or a long line would take
 * quadratic time.
 */
const shapes: readonly { readonly what: string; readonly pattern: RegExp }[] = [
  { what: 'a private key', pattern: /-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY/ },
  { what: 'a k3s token', pattern: /\bK10[0-9A-Za-z…]{0,100}::[A-Za-z0-9-]+:/ },
  // The second half of a real token is random: one without any digit is far likelier a host name.
  {
    what: 'a kubeadm token',
    pattern: /(?<![\w.@/:-])[a-z0-9]{6}\.(?=[a-z]{0,15}[0-9])[a-z0-9]{16}(?![\w.-])/,
  },
  { what: 'a k0s join token', pattern: /\bH4sI[A-Za-z0-9+/]{100}/ },
  { what: 'a Muster enrolment token', pattern: /\.[0-9a-f]{64}\.[0-9a-f]{64}\b/ },
  // A public key of Nix has 32 bytes, a secret one 64.
  { what: 'a secret signing key of Nix', pattern: /:[A-Za-z0-9+/]{86}==/ },
  { what: 'an age secret key', pattern: /AGE-SECRET-KEY-1/i },
  { what: 'a Tailscale key', pattern: /\btskey-[a-z]+-/ },
  { what: 'a GitHub token', pattern: /\bgh[pousr]_[A-Za-z0-9]{30}/ },
  { what: 'a password hash', pattern: /\$(?:y|gy|[1567]|2[aby])\$[./A-Za-z0-9$]{8}/ },
]

/** What kind of secret a text seems to hold, and where in it; undefined when it looks harmless. */
export function findSecret(text: string): { readonly what: string; readonly index: number } | undefined {
  for (const { what, pattern } of shapes) {
    const index = text.search(pattern)
    if (index >= 0) return { what, index }
  }
  return undefined
}

export const secretCure =
  'every node can read this file and git keeps it for good; remove it, replace it where it was used, and keep secrets encrypted per host'
