import { join } from 'node:path'
import type { Hardware } from './virtual-machine.ts'

/** Files of the folder, which qemu listens at. */
export const CONTROL_SOCKET = 'control.sock'
export const MONITOR_SOCKET = 'monitor.sock'

export interface QemuOptions {
  /** Holds disk.qcow2 and variables.fd, and gets the sockets and console.log. */
  readonly folder: string
  readonly firmware: string
  /** A tap device of the network namespace that qemu runs in. */
  readonly link: string
  readonly hardware: Hardware
  readonly memoryMegabytes: number
  /** What the battery-backed clock says at first. */
  readonly clock: Date
}

/** Emulated in software: KVM is not to be had in many places where tests run, and a test should not depend on it. */
export function qemuArguments(options: QemuOptions): readonly string[] {
  const { folder, firmware, link, hardware, memoryMegabytes, clock } = options
  const { manufacturer, product, serial, uuid, diskSerial, mac } = hardware
  const file = (name: string) => join(folder, name)
  return [
    ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '1', '-m', String(memoryMegabytes)],
    // Started anew by whoever started it: what was translated of the boot before makes a warm one twice as slow.
    '-no-reboot',
    ...['-no-user-config', '-nodefaults', '-display', 'none'],
    ...['-drive', `if=pflash,format=raw,readonly=on,file=${firmware}`],
    ...['-drive', `if=pflash,format=raw,file=${file('variables.fd')}`],
    ...['-drive', `if=none,id=disk,format=qcow2,cache=writeback,file=${file('disk.qcow2')}`],
    ...['-device', `virtio-blk-pci,drive=disk,serial=${diskSerial},bootindex=1`],
    ...['-netdev', `tap,id=net,ifname=${link},script=no,downscript=no`],
    ...['-device', `virtio-net-pci,netdev=net,mac=${mac},romfile=`],
    ...['-smbios', `type=1,manufacturer=${manufacturer},product=${product},serial=${serial},uuid=${uuid}`],
    // A guest without randomness starts slowly.
    ...['-device', 'virtio-rng-pci', '-device', 'virtio-serial-pci'],
    ...['-chardev', `socket,id=control,path=${file(CONTROL_SOCKET)},server=on,wait=off`],
    ...['-device', 'virtserialport,chardev=control,name=muster.lab'],
    ...['-qmp', `unix:${file(MONITOR_SOCKET)},server=on,wait=off`],
    ...['-chardev', `file,id=console,append=on,path=${file('console.log')}`, '-serial', 'chardev:console'],
    ...['-rtc', `base=${clock.toISOString().slice(0, 19)}`],
  ]
}
