import { lookup } from "node:dns";
import type { LookupFunction } from "node:net";
import { isMetadataAddress } from "./addresses.ts";

/** What the client takes from its surroundings. */
export interface Network {
  readonly lookup: LookupFunction;
  /** No request is sent to such an address. */
  readonly forbids: (address: string) => boolean;
}

export const systemNetwork: Network = { lookup, forbids: isMetadataAddress };
