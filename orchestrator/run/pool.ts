import type { OrchestratorMessage, TaskManagerMessage } from "../../task-manager/protocol.ts";
import type { LossCause, TaskManagerId } from "../scheduler/types.ts";

/** Messages about items; the pool deals with the others. */
export type ItemMessage = Extract<TaskManagerMessage, { kind: "begun" | "items" | "returned" | "sized" | "heartbeat" | "idle" }>;

/** How a Task Manager fares with hosts, and with its memory. */
export type SurroundingsMessage = Extract<TaskManagerMessage, { kind: "hosts" | "memory" }>;

/** What a run hears from its pool. */
export interface PoolListener {
  joined(id: TaskManagerId, able: { readonly name: string; readonly room: number; readonly lanes: number }): void;
  /** `crowded`: its backend takes no more at once than are there. */
  launchEnded(id: TaskManagerId, reason: "throttled" | "refused" | "died", message: string, crowded: boolean): void;
  message(id: TaskManagerId, message: ItemMessage): void;
  /** `ranOut`: of memory. */
  lost(id: TaskManagerId, cause: LossCause, ranOut: boolean): void;
  surroundings(message: SurroundingsMessage): void;
  log(id: TaskManagerId, level: "debug" | "info" | "warn" | "error", message: string): void;
  /** How many items of a host are to be handed out in a second; null: any number. */
  paced(host: string, itemsPerSecond: number | null): void;
  allowance(taskManagers: number): void;
}

/** The Task Managers that a run may use: it declares what it needs, the service implements it. */
export interface Pool {
  readonly allowance: number;
  listen(listener: PoolListener): void;
  /** How many Task Managers would have something to do, whatever the allowance is. */
  want(taskManagers: number): void;
  launch(id: TaskManagerId): void;
  send(id: TaskManagerId, message: Extract<OrchestratorMessage, { kind: "assign" | "reclaim" | "cancel" }>): void;
  release(id: TaskManagerId, how: "keep" | "drain" | "kill"): void;
}
