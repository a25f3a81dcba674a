/** How a person or a script ends a run: first gently, then at once. */
export interface StopSwitch {
  request(how: "drain" | "now"): void;
  /** Is there a run that hears it? Before, nothing was begun. */
  readonly heard: boolean;
  readonly isRequested: boolean;
  /** Resolves with the first request. */
  readonly requested: Promise<void>;
  /** Hears every request, those made before too. */
  onRequest(listener: (how: "drain" | "now") => void): void;
  /** The run is over: the signal is let go. */
  close(): void;
}

export function createStopSwitch(signal?: AbortSignal): StopSwitch {
  const requests: ("drain" | "now")[] = [];
  const listeners: ((how: "drain" | "now") => void)[] = [];
  let first: () => void = () => undefined;
  const requested = new Promise<void>((resolve) => {
    first = resolve;
  });
  const onAbort = () => stopSwitch.request("drain");
  const stopSwitch: StopSwitch = {
    requested,
    get isRequested() {
      return requests.length > 0;
    },
    get heard() {
      return listeners.length > 0;
    },
    request(how) {
      requests.push(how);
      first();
      for (const listener of listeners) listener(how);
    },
    onRequest(listener) {
      listeners.push(listener);
      for (const how of requests) listener(how);
    },
    close: () => signal?.removeEventListener("abort", onAbort),
  };
  if (signal?.aborted) onAbort();
  else signal?.addEventListener("abort", onAbort, { once: true });
  return stopSwitch;
}
