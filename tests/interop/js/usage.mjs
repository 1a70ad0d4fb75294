/** Processor time and memory of this process. */

let forcedCollectionsUs = 0

function processorUs () {
  const { user, system } = process.cpuUsage()
  return user + system
}

/** User and system seconds of this process so far, without the collections that `settledUsage` forced. */
export function cpuSeconds () {
  return (processorUs() - forcedCollectionsUs) / 1e6
}

/** The usage after two full collections; needs --expose-gc. */
export function settledUsage () {
  const before = processorUs()
  globalThis.gc()
  globalThis.gc()
  forcedCollectionsUs += processorUs() - before
  return { cpu_s: cpuSeconds(), rss_kib: Math.round(process.memoryUsage.rss() / 1024) }
}

/** Runs `work` and adds what it took to what it returns. */
export async function measured (work) {
  const cpu = cpuSeconds()
  const start = performance.now()
  const facts = await work()
  return { ...facts, wall_s: (performance.now() - start) / 1000, cpu_s: cpuSeconds() - cpu }
}

/** Nearest-rank percentiles of values in microseconds. */
export function percentiles (valuesUs) {
  const sorted = Float64Array.from(valuesUs).sort()
  const at = share => Math.round(sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] * 10) / 10
  return { p50: at(0.5), p99: at(0.99) }
}
