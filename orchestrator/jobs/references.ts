import type { ResolvedJob, ResolvedReference } from "./types.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

/** Fields of a job that may be `{ env: NAME }`, as path and name. */
export function referencesOf(field: string, values: Readonly<Record<string, ResolvedReference>>): readonly { readonly field: string; readonly env: string }[] {
  return Object.entries(values).flatMap(([name, value]) => (typeof value === "string" ? [] : [{ field: `${field}.${name}`, env: value.env }]));
}

/** The values themselves. That the variables are set was checked when the job was resolved. */
export function dereferenced(values: Readonly<Record<string, ResolvedReference>>, environment: Environment): Record<string, string> {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, typeof value === "string" ? value : (environment[value.env] ?? "")]),
  );
}

/** What the job's Task Managers get as environment, beside the orchestrator's own. Never to be logged or recorded. */
export function taskManagerEnvironment(job: ResolvedJob, environment: Environment): Record<string, string> {
  return dereferenced(job.env, environment);
}

/** Names under which people keep secrets. */
const secretName = /auth|cookie|token|secret|password|passwd|passphrase|credential|signature|api[-_]?key|access[-_]?key|private[-_]?key|^key$|[-_]key$/i;

/** Of a value written in the job itself: would it be wrong to keep it in a file? */
export function looksSecret(name: string): boolean {
  return secretName.test(name);
}

/**
 * The values as they are recorded: references stay references; a secret that was given literally becomes a reference
 * to a variable that has to be set when the record is run again.
 */
export function recordedReferences(
  values: Readonly<Record<string, ResolvedReference>>,
  variableFor: (name: string) => string,
): Record<string, ResolvedReference> {
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) =>
      [name, typeof value === "string" && looksSecret(name) ? { env: variableFor(name) } : value]),
  );
}
