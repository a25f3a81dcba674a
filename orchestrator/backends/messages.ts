import { begunItemsMax, lambdaLine, taskManagerMessage, type LambdaLine, type TaskManagerMessage } from "../../task-manager/protocol.ts";

type Fields = Readonly<Record<string, unknown>>;

/** What a Task Manager said, checked against the schema; null: it is no message. */
export function taskManagerMessageOf(value: unknown): TaskManagerMessage | null {
  return isWorkAsUsual(value) ? value : (taskManagerMessage.safeParse(value).data ?? null);
}

/** A line of a Lambda function's response; null: it is none. */
export function lambdaLineOf(value: unknown): LambdaLine | null {
  return isWorkAsUsual(value) ? value : (lambdaLine.safeParse(value).data ?? null);
}

/**
 * True: it is one of the two messages that come with all items, items that ended well, and exactly as the schema has it,
 * so that the schema would give back its copy. Of anything else the schema decides. It takes as long for a message as its
 * JSON takes to be parsed, and leaves as much to be collected.
 */
function isWorkAsUsual(value: unknown): value is Extract<TaskManagerMessage, { kind: "begun" | "items" }> {
  if (!isRecord(value)) return false;
  switch (value["kind"]) {
    case "begun":
      return hasFields(value, 3) && isCount(value["assignment"]) && areBegun(value["items"]);
    case "items":
      return hasFields(value, 5) && isCount(value["assignment"]) && areResults(value["results"]) && isEmpty(value["errors"]) && areStages(value["stages"]);
    default:
      return false;
  }
}

function areBegun(items: unknown): boolean {
  return Array.isArray(items) && items.length <= begunItemsMax && items.every(isCount);
}

function areResults(results: unknown): boolean {
  return Array.isArray(results) && results.every(isResult);
}

function isResult(result: unknown): boolean {
  return isRecord(result) && hasFields(result, 2) && isCount(result["index"]) && result["output"] !== undefined;
}

function isEmpty(errors: unknown): boolean {
  return Array.isArray(errors) && errors.length === 0;
}

function areStages(stages: unknown): boolean {
  if (!isRecord(stages)) return false;
  for (const name in stages) {
    const times = stages[name];
    // In a record the schema leaves this one out.
    if (name === "__proto__" || !isRecord(times)) return false;
    if (!hasFields(times, 3) || !isCount(times["items"]) || !Number.isFinite(times["busyMs"]) || !Number.isFinite(times["waitMs"])) return false;
  }
  return true;
}

/** As JSON has them: nothing that a class made. */
function isRecord(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** With those that are asked for by name, none is left that the schema would take away. */
function hasFields(value: Fields, count: number): boolean {
  let fields = 0;
  for (const _ in value) fields += 1;
  return fields === count;
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
