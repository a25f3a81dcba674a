/** What a run cost, in USD, by the list prices of a date, before any free tier. */
export interface Cost {
  /** `requestsUsd + computeUsd + initUsd + ephemeralUsd + storageRequestsUsd`. */
  readonly usd: number;
  /** By the items that ended in this run; null: none did. */
  readonly per1000ItemsUsd: number | null;
  readonly requestsUsd: number;
  /** Memory × time, without the inits. */
  readonly computeUsd: number;
  /** Memory × time of cold starts. */
  readonly initUsd: number;
  /** What /tmp has above the 512 MB that are free. */
  readonly ephemeralUsd: number;
  /** Requests to S3: one for each try of an item that is there, at least, and those of the list, of the output, of what was staged and fetched, and of spilled responses. */
  readonly storageRequestsUsd: number;
  /** Part of `usd` that came to nothing: work after a stop, attempts that were lost, and, by its share of the items, what was done twice. */
  readonly wastedUsd: number;
  /** Not in `usd`: what runs on, since nothing can stop it, costs this at most. */
  readonly stillRunningUsd: number;
  readonly invocations: number;
  readonly coldStarts: number;
  readonly billedSeconds: number;
  readonly gbSeconds: number;
  /** The most that any invocation used; null: not told. */
  readonly maxMemoryMb: number | null;
  /** Time that warm invocations took beside what their code ran: the request, its dispatch, the answer's way. Share of their whole time, 0 to 1, and mean; null: none was warm. */
  readonly overhead: { readonly share: number; readonly eachMs: number } | null;
  /** Where the billed time is from: Lambda's own reports, or the durations as seen from here. */
  readonly billed: "reported" | "computed" | "partly reported";
  /** Of the oldest price that was used: `2026-11-21`. */
  readonly pricesDate: string;
  /** The regions whose prices were used. */
  readonly pricesRegions: readonly string[];
}

/** `$0.0042`: enough digits to tell cents of cents apart, no more. */
export function usdText(usd: number): string {
  if (usd === 0) return "$0";
  if (usd >= 0.1) return `$${usd.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
  if (usd < 1e-9) return "under $0.000000001";
  return `$${usd.toLocaleString("en-US", { maximumSignificantDigits: 2, maximumFractionDigits: 12 })}`;
}

/** The lines of a summary that speak of money. */
export function costLines(cost: Cost): readonly string[] {
  const parts: readonly (readonly [number, string])[] = [
    [cost.computeUsd, "compute"],
    [cost.initUsd, "cold starts"],
    [cost.requestsUsd, "requests"],
    [cost.ephemeralUsd, "/tmp"],
    [cost.storageRequestsUsd, "S3 requests"],
  ];
  const said = parts.filter(([usd]) => usd > 0).map(([usd, what]) => `${usdText(usd)} ${what}`);
  return [
    `  ${usdText(cost.usd)}${cost.per1000ItemsUsd === null ? "" : `, ${usdText(cost.per1000ItemsUsd)} per 1,000 items`}`,
    ...(said.length > 1 ? [`  ${said.join(" + ")}`] : []),
    `  ${count(cost.invocations)} ${cost.invocations === 1 ? "invocation" : "invocations"}, ${count(cost.coldStarts)} cold; ${count(Math.round(cost.gbSeconds))} GB-s` +
      `${cost.maxMemoryMb === null ? "" : `; at most ${count(cost.maxMemoryMb)} MB used`}`,
    ...(cost.wastedUsd > 0 ? [`  ${usdText(cost.wastedUsd)} of it came to nothing`] : []),
    ...(cost.stillRunningUsd > 0 ? [`  what runs on and cannot be stopped costs ${usdText(cost.stillRunningUsd)} more at most`] : []),
    `  Prices of ${cost.pricesDate} (${cost.pricesRegions.join(", ")}), before any free tier; billed time ${billedText[cost.billed]}`,
  ];
}

function count(value: number): string {
  return value.toLocaleString("en-US");
}

const billedText: Readonly<Record<Cost["billed"], string>> = {
  reported: "as Lambda reports it",
  computed: "computed from the durations seen here",
  "partly reported": "as Lambda reports it, else computed from the durations seen here",
};
