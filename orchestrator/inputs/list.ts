import { createHash } from "node:crypto";
import type { JsonValue } from "../../task-manager/protocol.ts";
import type { InputSpec } from "../jobs/types.ts";
import type { ItemRules } from "./item.ts";
import { jsonItem } from "./line-items.ts";
import type { ItemSource } from "./types.ts";

/** Items that stand in the job: values, or objects with `input` and perhaps `id` and `weight`. */
export function openListSource(list: readonly JsonValue[], spec: InputSpec, rules: ItemRules): ItemSource {
  const json = JSON.stringify(list);
  let taken = 0;
  return {
    identity: {
      kind: "list",
      from: createHash("sha256").update(json).digest("hex"),
      size: Buffer.byteLength(json),
      modifiedMs: null,
    },
    rereadable: true,
    async read(count) {
      const first = taken;
      const chunk = list.slice(first, first + count);
      taken += chunk.length;
      return chunk.map((value, place) => jsonItem(value, { fields: spec, rules, number: first + place + 1, bytes: Infinity }));
    },
    remaining: () => list.length - taken,
    close: async () => {},
  };
}
