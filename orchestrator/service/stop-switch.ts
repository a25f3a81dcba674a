/** How a person or a script ends a run: first gently, then at once. */
export interface StopSwitch {
  request(how: "drain" | "now"): void;
  /** Is there a run that hears it? Before, nothing was begun. */
  readonly heard: boolean;
  /** Hears every request, those made before too. */
  onRequest(listener: (how: "drain" | "now") => void): void;
}

export function createStopSwitch(signal?: AbortSignal): StopSwitch {
  const requests: ("drain" | "now")[] = [];
  const listeners: ((how: "drain" | "now") => void)[] = [];
  const stopSwitch: StopSwitch = {
    get heard() {
      return listeners.length > 0;
    },
    request(how) {
      requests.push(how);
      for (const listener of listeners) listener(how);
    },
    onRequest(listener) {
      listeners.push(listener);
      for (const how of requests) listener(how);
    },
  };
  if (signal?.aborted) stopSwitch.request("drain");
  else signal?.addEventListener("abort", () => stopSwitch.request("drain"), { once: true });
  return stopSwitch;
}
