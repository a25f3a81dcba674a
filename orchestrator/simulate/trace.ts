import type { Ranges } from "../../task-manager/protocol.ts";
import type { AssignmentId } from "../scheduler/types.ts";

/** One assignment's time at a machine. */
export interface Bar {
  readonly slot: number;
  readonly run: number;
  readonly assignment: AssignmentId;
  readonly fromS: number;
  readonly toS: number;
  readonly items: number;
}

/** What a picture of a run is made of. */
export interface Trace {
  assigned(run: number, assignment: AssignmentId, items: Ranges): void;
  worked(bar: Bar): void;
}

export const noTrace: Trace = { assigned: () => {}, worked: () => {} };
