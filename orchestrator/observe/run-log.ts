import pino from "pino";

export interface RunLog {
  log(level: "debug" | "info" | "warn" | "error", message: string): void;
  /** Once all of it is written, as far as the disk takes it. */
  close(): Promise<void>;
}

/** Signatures and keys in a URL's query, wherever one is quoted. */
const query = /(https?:\/\/[^\s"'?]+)\?[^\s"']*/gi;
const userInfo = /(https?:\/\/)[^\s"'/@]+@/gi;

/** Text in which no URL carries its query or its user any more. */
export function withoutSecrets(text: string): string {
  return text.replace(query, "$1?…").replace(userInfo, "$1");
}

/** `logs/orchestrator.log`: a JSON line an event. */
export function openRunLog(path: string): RunLog {
  const destination = pino.destination({ dest: path, sync: false, mode: 0o600, mkdir: true });
  let open = true;
  const ended = new Promise<void>((resolve) => {
    destination.on("close", () => resolve());
    destination.on("error", () => {
      // A full disk is the journal's to report; kept, the lines would be tried again for ever when the process ends.
      open = false;
      destination.destroy();
      resolve();
    });
  });
  const logger = pino({ base: null, level: "debug", timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: (level) => ({ level }) } }, destination);
  return {
    log(level, message) {
      if (open) logger[level](withoutSecrets(message));
    },
    close() {
      // Not its flushSync(), which tries for ever where the disk is full.
      if (open) destination.end();
      open = false;
      return ended;
    },
  };
}
