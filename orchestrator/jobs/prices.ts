import { readFile } from "node:fs/promises";
import { SplitrunError } from "../errors.ts";
import type { Ledger } from "./ledger.ts";
import { problemsOf } from "./problems.ts";
import { priceTableSchema } from "./schema.ts";
import type { PriceTable } from "./types.ts";

/**
 * The user's own prices; null: none.
 * @throws SplitrunError PRICES_NOT_FOUND, PRICES_INVALID
 */
export async function resolvePrices(given: string | PriceTable | undefined, ledger: Ledger): Promise<PriceTable | null> {
  ledger.note("prices", given === undefined ? null : typeof given === "string" ? given : `of ${given.date}`, given === undefined ? "default: the built-in ones" : ledger.originOf("prices"));
  if (given === undefined) return null;
  return typeof given === "string" ? readPrices(given) : given;
}

async function readPrices(file: string): Promise<PriceTable> {
  const read = await readJson(file);
  const table = priceTableSchema.safeParse(read);
  if (table.success) return table.data;
  const problems = problemsOf(table.error.issues, priceTableSchema, read).map(({ field, message }) => `  ${field === "" ? "" : `${field}: `}${message}`);
  throw new SplitrunError(`the prices in ${file} are wrong:\n${problems.join("\n")}`, { code: "PRICES_INVALID", field: "prices", value: file });
}

async function readJson(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, "utf8")) as unknown;
  } catch (cause) {
    const missing = cause instanceof Error && "code" in cause && cause.code === "ENOENT";
    const reason = missing ? "does not exist" : `cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`;
    throw new SplitrunError(`the file of prices ${file} ${reason}`, { code: missing ? "PRICES_NOT_FOUND" : "PRICES_INVALID", field: "prices", value: file, cause });
  }
}
