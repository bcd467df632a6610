// Loaded before a program that `npm start` starts: ends it when its parent is gone, also when that was killed. The channel
// to the parent closes with the parent, whatever it died of.
if (process.channel) {
  process.on('disconnect', () => process.kill(process.pid, 'SIGTERM'))
  // The listener would keep the program running that wants to end.
  process.channel.unref()
}
