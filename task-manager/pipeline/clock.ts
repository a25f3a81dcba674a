/** Milliseconds that mean the same on every thread of the process, unlike `performance.now()`. */
export function threadsNowMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e3 + nanoseconds / 1e6;
}
