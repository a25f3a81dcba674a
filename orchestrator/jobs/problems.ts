import type { z } from "zod";
import { shown, type Problem } from "./job-error.ts";
import { nearestName, plain } from "./nearest-name.ts";

type Issue = z.core.$ZodIssue;
type Path = readonly PropertyKey[];

/** What zod found, as lines that name the field, the value, what is allowed, and the nearest right name. */
export function problemsOf(issues: readonly Issue[], schema: z.ZodType, job: unknown): readonly Problem[] {
  const problems = new Map<string, Problem>();
  for (const problem of issues.flatMap((issue) => fromIssue(issue, [], schema, job))) {
    problems.set(`${problem.field}\n${problem.message}`, problem);
  }
  return [...problems.values()];
}

function fromIssue(issue: Issue, base: Path, schema: z.ZodType, job: unknown): readonly Problem[] {
  const path = [...base, ...issue.path];
  switch (issue.code) {
    case "unrecognized_keys":
      return issue.keys.map((key) => unknownField([...path, key], schema, job));
    case "invalid_union": {
      if (issue.errors.length === 0) return [notAllowed([...path], issue.message, job)];
      const branch = branchMeant(issue.errors);
      return branch === undefined ? [notAllowed(path, issue.message, job)] : branch.flatMap((inner) => fromIssue(inner, path, schema, job));
    }
    case "invalid_key":
      return [notAllowed(path, issue.issues.map((inner) => inner.message).join(", "), job)];
    default:
      return [notAllowed(path, issue.message, job)];
  }
}

/** The only branch of a union whose type fits the value, so that its complaints are the ones that help. */
function branchMeant(branches: readonly (readonly Issue[])[]): readonly Issue[] | undefined {
  const fitting = branches.filter((issues) => !issues.some((issue) => issue.path.length === 0 && isTypeIssue(issue)));
  return fitting.length === 1 ? fitting[0] : undefined;
}

function isTypeIssue(issue: Issue): boolean {
  return issue.code === "invalid_type" || issue.code === "invalid_value" || issue.code === "custom" || issue.code === "invalid_format";
}

function notAllowed(path: Path, allowed: string, job: unknown): Problem {
  const field = path.map(String).join(".");
  const value = at(job, path);
  if (value === undefined) return { field, value, message: `is missing; allowed: ${allowed}` };
  const meant = typeof value === "string" ? nearestName(value, allowed.split(/, (?:or )?/).filter((name) => /^[\w-]+$/.test(name))) : null;
  return { field, value, message: `${shown(field, value)} is not allowed${meant === null ? "" : `; did you mean ${meant}?`}; allowed: ${allowed}` };
}

function unknownField(path: Path, schema: z.ZodType, job: unknown): Problem {
  const field = path.map(String).join(".");
  const parent = path.slice(0, -1);
  const value = at(job, path);
  const shapes = shapesAt(schema, parent);
  const siblings = shapes.filter(meantBy(at(job, parent))).flatMap((shape) => Object.keys(shape));
  const meant = meantField(String(path.at(-1)), parent, shapes, siblings, schema);
  return {
    field,
    value,
    message: `unknown field with the value ${shown(field, value)}${meant === null ? "" : `; did you mean ${meant}?`}; allowed: ${siblings.join(", ")}`,
  };
}

/** The same field of another kind of object, or one of a similar name beside it, or one of that name elsewhere. */
function meantField(name: string, parent: Path, shapes: readonly Shape[], siblings: readonly string[], schema: z.ZodType): string | null {
  const kind = shapes.filter((shape) => Object.hasOwn(shape, name)).map((shape) => literalOf(shape["kind"]))[0];
  if (kind !== undefined) return `${[...parent, "kind"].map(String).join(".")} ${String(kind)}`;
  return nearestName(name, siblings) ?? allFields(schema, [], []).find((known) => plain(known.split(".").at(-1) ?? "") === plain(name)) ?? null;
}

type Shape = Readonly<Record<string, z.core.$ZodType>>;

/** Objects that a value at `path` can be. */
function shapesAt(schema: z.core.$ZodType, path: Path): readonly Shape[] {
  const [next, ...rest] = path;
  if (next === undefined) return shapesIn(schema);
  return childrenIn(schema, String(next)).flatMap((child) => shapesAt(child, rest));
}

/** Of objects told apart by `kind`, the one that the value names. */
function meantBy(value: unknown): (shape: Shape) => boolean {
  const kind = isPlainObject(value) ? value["kind"] : undefined;
  return (shape) => literalOf(shape["kind"]) === undefined || literalOf(shape["kind"]) === kind;
}

/** Every field of the job, as a path. */
function allFields(schema: z.core.$ZodType, path: readonly string[], found: string[]): readonly string[] {
  for (const shape of shapesIn(schema)) {
    for (const [name, field] of Object.entries(shape)) {
      found.push([...path, name].join("."));
      allFields(field, [...path, name], found);
    }
  }
  return found;
}

function shapesIn(schema: z.core.$ZodType): readonly Shape[] {
  const { def } = (schema as z.core.$ZodTypes)._zod;
  switch (def.type) {
    case "object":
      return [def.shape];
    case "optional":
    case "nullable":
      return shapesIn(def.innerType);
    case "union":
      return def.options.flatMap(shapesIn);
    default:
      return [];
  }
}

function childrenIn(schema: z.core.$ZodType, name: string): readonly z.core.$ZodType[] {
  const { def } = (schema as z.core.$ZodTypes)._zod;
  switch (def.type) {
    case "object":
      return Object.hasOwn(def.shape, name) ? [def.shape[name] as z.core.$ZodType] : [];
    case "record":
      return [def.valueType];
    case "optional":
    case "nullable":
      return childrenIn(def.innerType, name);
    case "union":
      return def.options.flatMap((option) => childrenIn(option, name));
    default:
      return [];
  }
}

function literalOf(schema: z.core.$ZodType | undefined): unknown {
  const def = (schema as z.core.$ZodTypes | undefined)?._zod.def;
  return def?.type === "literal" ? def.values[0] : undefined;
}

export function isPlainObject(value: unknown): value is Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  // A module's namespace and objects of another realm have prototypes of their own.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** Is `field` the field `parent`, or below it? */
export function isUnder(field: string, parent: string): boolean {
  return field === parent || field.startsWith(`${parent}.`);
}

export function valueAt(job: unknown, field: string): unknown {
  return at(job, field.split("."));
}

function at(value: unknown, path: Path): unknown {
  let part = value;
  for (const key of path) {
    if (typeof part !== "object" || part === null || !Object.hasOwn(part, key)) return undefined;
    part = (part as Record<PropertyKey, unknown>)[key];
  }
  return part;
}

export function withoutField(value: unknown, field: string): unknown {
  const [name, ...rest] = field.split(".");
  if (name === undefined || !isPlainObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, part]) => {
      if (key !== name) return [[key, part]];
      return rest.length === 0 ? [] : [[key, withoutField(part, rest.join("."))]];
    }),
  );
}
