import { SplitrunError } from "../errors.ts";
import { looksSecret } from "./references.ts";

/** One thing that is wrong with a job, in one line: the field, the value, the way out. */
export interface Problem {
  readonly field: string;
  readonly value: unknown;
  /** Without the field's name. */
  readonly message: string;
}

/** The job is wrong and nothing was started; `message` has a line for each problem. */
export class JobInvalidError extends SplitrunError {
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    const [first] = problems;
    super(messageOf(problems), {
      code: "JOB_INVALID",
      ...(first === undefined ? {} : { field: first.field, value: first.value }),
    });
    this.name = "JobInvalidError";
    this.problems = problems;
  }
}

function messageOf(problems: readonly Problem[]): string {
  const lines = problems.map(({ field, message }) => (field === "" ? message : `${field}: ${message}`));
  if (lines.length === 1) return `the job is wrong: ${lines[0]}`;
  return [`the job is wrong in ${lines.length} places:`, ...lines.map((line) => `  ${line}`)].join("\n");
}

/** Header values and environments may be secrets, wherever they were put. */
const hiddenFields = /(^|\.)(headers|env)(\.|$)/;

/** A value as a message may show it: short, without secrets, without the query of a URL. */
export function shown(field: string, value: unknown): string {
  if (hiddenFields.test(field) || looksSecret(field.split(".").at(-1) ?? "")) return "(hidden)";
  if (typeof value === "function") return "a function";
  if (typeof value === "bigint" || typeof value === "symbol") return String(value);
  const text = JSON.stringify(value, withoutSecretParts) ?? "undefined";
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}

function withoutSecretParts(key: string, part: unknown): unknown {
  if ((key === "headers" || key === "env") && typeof part === "object") return "(hidden)";
  return typeof part === "string" ? withoutSecrets(part) : part;
}

/** A URL without user, password, query and fragment: signatures live there. */
export function withoutSecrets(text: string): string {
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) return text;
  const bare = text.replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/?#]*@/i, "$1").replace(/[?#].*$/s, "");
  return bare === text ? text : `${bare}${/[?#]/.test(text) ? "?…" : ""}`;
}
