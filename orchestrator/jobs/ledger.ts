import type { JsonValue } from "../../task-manager/protocol.ts";
import type { Provenance } from "./types.ts";

/** Settles one field after the other and notes where each value came from. */
export class Ledger {
  readonly #origins: Readonly<Record<string, string>>;
  readonly #entries = new Map<string, Provenance>();

  /** @param origins what said a field, other than the job itself */
  constructor(origins: Readonly<Record<string, string>>) {
    this.#origins = origins;
  }

  /** The job's value, else the default. */
  settle<Value extends JsonValue>(field: string, given: Value | undefined, otherwise: Value, rule = "default"): Value {
    const value = given === undefined ? otherwise : given;
    this.note(field, value, given === undefined ? rule : this.originOf(field));
    return value;
  }

  /** A value that a rule decided; it takes the place of what was noted before. */
  note(field: string, value: JsonValue, rule: string): void {
    this.#entries.set(field, { field, value, rule });
  }

  /** What said a field: the job, or whoever said it or the object that it is in. */
  originOf(field: string): string {
    for (let path = field; path !== ""; path = path.slice(0, Math.max(0, path.lastIndexOf(".")))) {
      const origin = this.#origins[path];
      if (origin !== undefined && Object.hasOwn(this.#origins, path)) return origin;
    }
    return "the job";
  }

  /** Everything noted, the top fields in the given order. */
  inOrderOf(fields: readonly string[]): readonly Provenance[] {
    const place = ({ field }: Provenance) => fields.indexOf(field.split(".", 1)[0] ?? "");
    return [...this.#entries.values()].sort((left, right) => place(left) - place(right));
  }
}
