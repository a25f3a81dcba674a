import { pricesIn } from "../orchestrator/backends/lambda/prices.ts";
import type { Architecture } from "./options.ts";

export interface RuntimeCost {
  /** USD of 1000 seconds of one Task Manager at work. */
  readonly thousandSecondsUsd: number;
  readonly millionRequestsUsd: number;
  /** Of the price table. */
  readonly pricesDate: string;
  /** Whose prices they are, where its own are not known. */
  readonly pricesRegion: string;
}

/** Lambda's price page: /tmp up to here costs nothing. */
const freeEphemeralMb = 512;

/** What is paid for while it works; a function that is idle costs nothing. */
export function runtimeCost({ region, architecture, memoryMb, ephemeralMb }: { readonly region: string; readonly architecture: Architecture; readonly memoryMb: number; readonly ephemeralMb: number }): RuntimeCost {
  const prices = pricesIn(region, null);
  const memory = (memoryMb / 1024) * (architecture === "arm64" ? prices.armGbSecond : prices.x86GbSecond);
  const storage = (Math.max(0, ephemeralMb - freeEphemeralMb) / 1024) * prices.ephemeralGbSecond;
  return { thousandSecondsUsd: 1000 * (memory + storage), millionRequestsUsd: 1e6 * prices.request, pricesDate: prices.date, pricesRegion: prices.region };
}
