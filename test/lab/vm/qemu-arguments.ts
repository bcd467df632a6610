import { join } from 'node:path'
import type { Hardware } from './virtual-machine.ts'

/** Files of the folder, which qemu listens at. */
export const CONTROL_SOCKET = 'control.sock'
export const MONITOR_SOCKET = 'monitor.sock'
/** A file of the folder: what the firmware says of the watchdog. */
export const WATCHDOG_TABLE = 'watchdog.acpi'

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
  /** Whether there is a watchdog: the one of Intel's chipset, which `watchdogTable` tells of. */
  readonly watchdog: boolean
}

/** Emulated in software: KVM is not to be had in many places where tests run, and a test should not depend on it. */
export function qemuArguments(options: QemuOptions): readonly string[] {
  const { folder, firmware, link, hardware, memoryMegabytes, clock, watchdog } = options
  const { manufacturer, product, serial, uuid, diskSerial, mac } = hardware
  const file = (name: string) => join(folder, name)
  return [
    ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '1', '-m', String(memoryMegabytes)],
    // Without the second word the board is strapped to count to the end and do nothing.
    ...(watchdog ? ['-machine', 'q35', '-global', 'ICH9-LPC.noreboot=false'] : []),
    ...(watchdog ? ['-watchdog-action', 'reset', '-acpitable', `file=${file(WATCHDOG_TABLE)}`] : []),
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
