import { createHash } from 'node:crypto'
import { mkdir, rm } from 'node:fs/promises'
import { basename } from 'node:path'
import { ensureCached } from '../root.ts'
import { must } from '../run.ts'

/** What containers and the stand-ins for k0s and k3s need, from Debian. */
const PACKAGES = [
  ...['containerd', 'runc', 'containernetworking-plugins'],
  ...['iptables', 'conntrack', 'socat', 'ethtool'],
  // What servers keep an address among themselves with.
  'keepalived',
  ...['python3-yaml', 'python3-cryptography'],
]
/** Where programs look for network plugins that do not know Debian. */
const LINK = '/opt/cni/bin'
const INSTALL_MS = 10 * 60_000

/** A folder to lay over the lab's root that has what runs containers. Made at the first call, in a minute or less. */
export async function ensureContainerLayer(root: string): Promise<string> {
  const key = createHash('sha256')
    .update([basename(root), LINK, ...PACKAGES].join('\n'))
    .digest('hex')
    .slice(0, 12)
  return await ensureCached(`containers-${key}`, async folder => {
    const [work, merged] = [`${folder}-work`, `${folder}-merged`]
    await mkdir(work)
    await mkdir(merged)
    try {
      // Mounts of a namespace of its own: nothing stays whatever happens.
      const script = `
        set -e
        mount --make-rprivate /
        mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3" "$4"
        merged=$4
        shift 4
        mount --bind /dev "$merged/dev"
        mount -t proc proc "$merged/proc"
        cp -L /etc/resolv.conf "$merged/etc/resolv.conf" || true
        printf '#!/bin/sh\\nexit 101\\n' >"$merged/usr/sbin/policy-rc.d"
        chmod 755 "$merged/usr/sbin/policy-rc.d"
        chroot "$merged" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive sh -ec '
          apt-get update -q
          apt-get install -y -q --no-install-recommends "$@"
          apt-get clean
          rm -rf /var/lib/apt/lists/* /usr/sbin/policy-rc.d /etc/resolv.conf /var/lib/containerd
          rm -rf /etc/systemd/system/*
          mkdir -p "$(dirname ${LINK})"
          ln -sfn /usr/lib/cni ${LINK}
        ' sh "$@"
      `
      const args = ['--mount', '/bin/sh', '-c', script, 'sh', root, folder, work, merged]
      await must('unshare', [...args, ...PACKAGES], { timeoutMs: INSTALL_MS })
    } finally {
      for (const made of [work, merged]) await rm(made, { recursive: true, force: true })
    }
  })
}
