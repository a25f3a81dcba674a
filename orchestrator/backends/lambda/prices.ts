import type { PriceNames, PriceTable } from "../../jobs/types.ts";
import builtIn from "./prices.json" with { type: "json" };

/** USD; of the first volume tier, before any free tier. */
export interface Prices extends Readonly<Record<PriceNames, number>> {
  /** When they were looked up: the older of two dates where a user's table says only a part. */
  readonly date: string;
  /** Where they hold; another region than the one that was asked for where that one is in no table. */
  readonly region: string;
}

/** Its prices are those of every region that our table does not say them of. */
const baseRegion = "us-east-1";

const ours: PriceTable = builtIn;

/**
 * What Lambda and S3 cost in a region. Ours are those of the calculator of AWS, as two independent copies have them; S3's
 * were looked up for us-east-1 alone.
 * @param overrides a user's own table, all or part: negotiated prices, newer ones, a region that is missing here
 */
export function pricesIn(region: string, overrides: PriceTable | null): Prices {
  const tables = overrides === null ? [ours] : [overrides, ours];
  const place = tables.some(({ regions }) => regions[region] !== undefined) ? region : baseRegion;
  // A user's own prices for one region say nothing of another.
  const said = [...tables.map(({ date, regions }) => ({ date, prices: regions[place] })), { date: ours.date, prices: ours.regions[baseRegion] }];
  const dates = new Set<string>();
  const price = (name: PriceNames): number => {
    const found = said.find(({ prices }) => prices?.[name] !== undefined);
    const value = found?.prices?.[name];
    if (found === undefined || value === undefined) throw new Error(`the built-in prices lack ${name}`);
    dates.add(found.date);
    return value;
  };
  const prices: Readonly<Record<PriceNames, number>> = {
    x86GbSecond: price("x86GbSecond"),
    armGbSecond: price("armGbSecond"),
    request: price("request"),
    ephemeralGbSecond: price("ephemeralGbSecond"),
    s3Put: price("s3Put"),
    s3Get: price("s3Get"),
  };
  return { ...prices, date: [...dates].sort()[0] ?? ours.date, region: place };
}
