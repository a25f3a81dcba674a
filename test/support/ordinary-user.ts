import { chownSync } from "node:fs";

/** Linux's user of no rights: `nobody`. */
const nobody = 65_534;

/**
 * Does `work` as a user who may not read everything; root, who may, becomes one for that time, to whom `places` are
 * given. No other test of the process may run meanwhile.
 */
export async function asOrdinaryUser<Value>(places: readonly string[], work: () => Promise<Value>): Promise<Value> {
  if (process.getuid?.() !== 0) return work();
  for (const place of places) chownSync(place, nobody, nobody);
  process.seteuid?.(nobody);
  try {
    return await work();
  } finally {
    process.seteuid?.(0);
  }
}
