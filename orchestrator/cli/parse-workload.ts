import * as z from "zod";
import { SplitrunError } from "../errors.ts";
import { nearestName } from "../jobs/nearest-name.ts";
import { workloadSchema, type Workload } from "../simulate/workload.ts";

/** @throws SplitrunError WORKLOAD_INVALID that names every wrong field, its value and what is allowed */
export function parseWorkload(file: string, text: string): Workload {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new SplitrunError(`${file} is not JSON: ${cause instanceof Error ? cause.message : String(cause)}`, { code: "WORKLOAD_INVALID", field: "workload", value: file, cause });
  }
  const parsed = workloadSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.flatMap((issue) => problemsOf(issue, value));
  throw new SplitrunError([`${file} is no workload:`, ...problems].join("\n  "), { code: "WORKLOAD_INVALID", field: "workload", value: file });
}

function problemsOf(issue: z.core.$ZodIssue, value: unknown): readonly string[] {
  if (issue.code !== "unrecognized_keys") {
    const found = at(value, issue.path);
    return [`${issue.path.map(String).join(".")}: ${found === undefined ? "is missing" : JSON.stringify(found)}; ${allowedBy(issue)}`];
  }
  const known = keysAt(workloadSchema, issue.path);
  return issue.keys.map((key) => {
    const meant = nearestName(key, known);
    const field = [...issue.path, key].map(String).join(".");
    return `${field}: unknown${meant === null ? "" : `; did you mean ${meant}?`}; allowed: ${known.join(", ")}`;
  });
}

/** What would have been right, in the words of the job's own errors. */
function allowedBy(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case "too_small":
      if (issue.origin === "array") return "allowed: a list that is not empty";
      return issue.origin === "string" ? "allowed: text that is not empty" : `allowed: a number ${issue.inclusive === true ? "from" : "above"} ${issue.minimum}`;
    case "too_big":
      return `allowed: a number up to ${issue.maximum}`;
    case "invalid_type":
      return `allowed: ${typeNames[issue.expected] ?? issue.expected}`;
    default:
      return issue.message;
  }
}

const typeNames: Readonly<Record<string, string>> = {
  int: "a whole number",
  number: "a number",
  string: "text",
  array: "a list",
  tuple: "a list of two numbers",
  object: "an object",
};

function at(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((inner, key) => (typeof inner === "object" && inner !== null ? (inner as Readonly<Record<PropertyKey, unknown>>)[key] : undefined), value);
}

/** Names of the fields that an object at that place can have. */
function keysAt(schema: z.core.$ZodType, path: readonly PropertyKey[]): readonly string[] {
  const { def } = (schema as z.core.$ZodTypes)._zod;
  switch (def.type) {
    case "optional":
    case "nullable":
    case "default":
      return keysAt(def.innerType, path);
    case "array":
      return keysAt(def.element, path.slice(1));
    case "object": {
      const [next, ...rest] = path;
      if (next === undefined) return Object.keys(def.shape);
      const inner = def.shape[String(next)];
      return inner === undefined ? [] : keysAt(inner, rest);
    }
    default:
      return [];
  }
}
