/** What has to be done so that what there is becomes what is wanted. Decides only; `apply.ts` does it. */
import { SplitrunError } from "../orchestrator/errors.ts";
import { stepUpNameOf } from "../orchestrator/backends/lambda/step-up.ts";
import { functionNames, identityOf, logGroupOf, policyDocument, policyName, roleNameOf, trustDocument } from "./documents.ts";
import type { FoundFunction, FoundLogGroup, FoundRuntime, PackageKind } from "./inspect.ts";
import { aliasName } from "./options.ts";
import type { RuntimeSettings } from "./options.ts";
import { differences, hasCode, ownerTag } from "./wanted.ts";
import type { FunctionWish, WantedCode } from "./wanted.ts";

export type Step = { readonly resource: string; readonly action: "create" | "update" | "delete"; readonly detail: string } & Work;

export type Work =
  | { readonly kind: "create-role" | "set-trust" | "put-policy"; readonly name: string }
  | { readonly kind: "create-log-group" | "set-log-group"; readonly name: string }
  | { readonly kind: "create-function" | "update-code" | "update-configuration"; readonly wish: FunctionWish }
  | { readonly kind: "tag-function"; readonly arn: string; readonly tags: Readonly<Record<string, string>>; readonly remove: readonly string[] }
  | { readonly kind: "set-concurrency"; readonly name: string; readonly executions: number | null }
  | { readonly kind: "publish"; readonly name: string; readonly aliasExists: boolean; readonly description: string }
  | { readonly kind: "delete-versions"; readonly name: string; readonly versions: readonly string[] }
  | DeleteWork;

export type DeleteWork =
  | { readonly kind: "leave-vpc" | "delete-function"; readonly name: string }
  | { readonly kind: "delete-role"; readonly name: string; readonly policies: readonly string[] }
  | { readonly kind: "delete-log-group"; readonly name: string }
  | { readonly kind: "delete-staged"; readonly staging: string };

/** Old versions that stay: invocations that run go on with theirs, and there is a way back. */
const versionsKept = 3;
/** CloudFormation puts it on what it makes. */
const stackTag = "aws:cloudformation:stack-name";

export interface DeployRequest {
  readonly settings: RuntimeSettings;
  readonly code: WantedCode;
  readonly wishes: readonly FunctionWish[];
  /** `splitrun redeploy`: settings stay as they are, only code and its tag change. */
  readonly codeOnly: boolean;
}

/** @throws SplitrunError RUNTIME_FOREIGN when something of that name is not ours, RUNTIME_INVALID when a zip is to become an image */
export function planDeployment(found: FoundRuntime, request: DeployRequest): readonly Step[] {
  refuseForeign(found, request.settings.name);
  refuseOtherKind(found, request.code.kind);
  const functions = request.wishes.flatMap((wish) => functionSteps(foundOf(found, wish.name), wish, found, request));
  if (request.codeOnly) return functions;
  const surplus = request.settings.memoryStepUpMb === null ? stepUpRemoval(found) : [];
  return [...roleSteps(found, request.settings), ...logSteps(found, request.settings), ...functions, ...surplus];
}

/** Order: functions before the role that they run with, and last what they write to until they end. */
export function planRemoval(found: FoundRuntime, name: string, stagings: readonly string[]): readonly Step[] {
  refuseForeign(found, name);
  return [
    ...[found.function, found.stepUp].flatMap((each) => (each === null ? [] : functionRemoval(each))),
    ...(found.role === null ? [] : [{ kind: "delete-role" as const, name: found.role.name, policies: [...found.role.policies.keys()], resource: `role ${found.role.name}`, action: "delete" as const, detail: "with its policies" }]),
    ...[found.logGroup, found.stepUpLogGroup].flatMap((group) => (group === null || !isOurs(group.tags, name) ? [] : [logGroupRemoval(group)])),
    ...stagings.map((staging): Step => ({ kind: "delete-staged", staging, resource: staging, action: "delete", detail: "staged models and packages" })),
  ];
}

function foundOf(found: FoundRuntime, name: string): FoundFunction | null {
  return [found.function, found.stepUp].find((each) => each?.name === name) ?? null;
}

function roleSteps({ role, region }: FoundRuntime, settings: RuntimeSettings): readonly Step[] {
  const name = roleNameOf(settings.name);
  const resource = `role ${name}`;
  const put: Step = { kind: "put-policy", name, resource, action: "update", detail: `policy ${policyName}: ${policyText(settings)}` };
  if (role === null) return [{ kind: "create-role", name, resource, action: "create", detail: "for Lambda alone" }, put];
  const wanted = policyDocument(settings, identityOf(role.arn, region));
  return [
    ...(sameJson(role.trust, trustDocument) ? [] : [{ kind: "set-trust" as const, name, resource, action: "update" as const, detail: "who may take it on" }]),
    ...(sameJson(role.policies.get(policyName) ?? "", wanted) ? [] : [put]),
  ];
}

function policyText({ read, write, stagingBucket, vpc }: RuntimeSettings): string {
  const places = [...read, ...(stagingBucket === null ? [] : [stagingBucket])].map(({ bucket, key }) => `reads s3://${bucket}/${key}`);
  return ["writes its own logs", ...places, ...write.map(({ bucket, key }) => `writes s3://${bucket}/${key}`), ...(vpc === null ? [] : ["network interfaces"])].join(", ");
}

function logSteps(found: FoundRuntime, settings: RuntimeSettings): readonly Step[] {
  return functionNames(settings).flatMap((functionName): readonly Step[] => {
    const name = logGroupOf(functionName);
    const group = [found.logGroup, found.stepUpLogGroup].find((each) => each?.name === name) ?? null;
    const detail = `keeps ${settings.retentionDays} days`;
    if (group === null) return [{ kind: "create-log-group", name, resource: `log group ${name}`, action: "create", detail }];
    if (group.retentionDays === settings.retentionDays && isOurs(group.tags, settings.name)) return [];
    return [{ kind: "set-log-group", name, resource: `log group ${name}`, action: "update", detail }];
  });
}

function functionSteps(found: FoundFunction | null, wish: FunctionWish, { role }: FoundRuntime, { code, codeOnly }: DeployRequest): readonly Step[] {
  const resource = `function ${wish.name}`;
  const publish = (aliasExists: boolean): Step =>
    ({ kind: "publish", name: wish.name, aliasExists, description: wish.state.description, resource: `alias ${wish.name}:${aliasName}`, action: aliasExists ? "update" : "create", detail: "a new version" });
  if (found === null) {
    const { memoryMb, timeoutSeconds, architecture, runtime } = wish.state;
    const kind = wish.packageKind === "zip" ? runtime : "an image";
    return [
      { kind: "create-function", wish, resource, action: "create", detail: `${memoryMb} MB, ${timeoutSeconds} s, ${architecture}, ${kind}` },
      ...concurrencySteps(null, wish),
      publish(false),
    ];
  }
  const roleArn = codeOnly ? null : role?.arn ?? "a new one";
  const settingsChanged = differences(found.latest, wish.state, roleArn, code);
  // What is behind a tag is another image after a push.
  const renewed = codeOnly && code.kind === "image" && !code.uri.includes("@");
  const codeChanged = renewed || !hasCode(found.latest, code) || found.latest.architecture !== wish.state.architecture;
  // With the code goes its description.
  const configure = settingsChanged.length > 0 || codeChanged;
  const liveIsRight = found.live !== null && hasCode(found.live, code) && found.live.architecture === wish.state.architecture
    && differences(found.live, wish.state, roleArn, code).length === 0;
  return [
    ...(codeChanged ? [{ kind: "update-code" as const, wish, resource, action: "update" as const, detail: codeText(found, wish) }] : []),
    ...(configure ? [{ kind: "update-configuration" as const, wish, resource, action: "update" as const, detail: settingsChanged.length === 0 ? "its description" : settingsChanged.join(", ") }] : []),
    ...tagSteps(found, wish),
    ...(codeOnly ? [] : concurrencySteps(found, wish)),
    ...(configure || !liveIsRight ? [publish(found.live !== null), ...oldVersions(found)] : []),
  ];
}

function codeText({ latest }: FoundFunction, { state }: FunctionWish): string {
  return latest.architecture === state.architecture ? "new code" : `new code, ${latest.architecture} → ${state.architecture}`;
}

function concurrencySteps(found: FoundFunction | null, { name, reservedConcurrency }: FunctionWish): readonly Step[] {
  const reserved = found?.reservedConcurrency ?? null;
  if (reserved === reservedConcurrency) return [];
  return [{
    kind: "set-concurrency", name, executions: reservedConcurrency, resource: `function ${name}`, action: "update",
    detail: reservedConcurrency === null ? "no reserved concurrency" : `at most and at least ${reservedConcurrency} invocations at once`,
  }];
}

/** Tags of others stay. */
function tagSteps(found: FoundFunction, { tags }: FunctionWish): readonly Step[] {
  const set = Object.fromEntries(Object.entries(tags).filter(([key, value]) => found.tags[key] !== value));
  const remove = Object.keys(found.tags).filter((key) => key.startsWith("splitrun:") && !(key in tags));
  const detail = [...Object.keys(set), ...remove.map((key) => `no ${key}`)].join(", ");
  return detail === "" ? [] : [{ kind: "tag-function", arn: found.arn, tags: set, remove, resource: `function ${found.name}`, action: "update", detail: `tags ${detail}` }];
}

function oldVersions({ name, versions, aliased }: FoundFunction): readonly Step[] {
  // One is about to be published. Those that somebody's alias points to cannot go.
  const old = versions.slice(0, Math.max(0, versions.length - versionsKept + 1)).filter((version) => !aliased.has(version));
  return old.length === 0 ? [] : [{ kind: "delete-versions", name, versions: old, resource: `function ${name}`, action: "delete", detail: `versions ${old.join(", ")}` }];
}

function stepUpRemoval({ stepUp, stepUpLogGroup }: FoundRuntime): readonly Step[] {
  return [...(stepUp === null ? [] : functionRemoval(stepUp)), ...(stepUpLogGroup === null ? [] : [logGroupRemoval(stepUpLogGroup)])];
}

function functionRemoval({ name, latest, versions }: FoundFunction): readonly Step[] {
  const resource = `function ${name}`;
  return [
    // Else Lambda keeps its network interfaces until it finds out by itself, and by then its role is gone.
    ...(latest.vpc === null ? [] : [{ kind: "leave-vpc" as const, name, resource, action: "update" as const, detail: "out of its VPC" }]),
    { kind: "delete-function", name, resource, action: "delete", detail: `with ${versions.length} version${versions.length === 1 ? "" : "s"} and its alias` },
  ];
}

function logGroupRemoval({ name }: FoundLogGroup): Step {
  return { kind: "delete-log-group", name, resource: `log group ${name}`, action: "delete", detail: "with what is in it" };
}

function isOurs(tags: Readonly<Record<string, string>>, name: string): boolean {
  return tags[ownerTag] === name;
}

function refuseForeign(found: FoundRuntime, name: string): void {
  for (const each of [found.function, found.stepUp, found.role]) {
    if (each === null) continue;
    const what = each === found.role ? `role ${each.name}` : `function ${each.name}`;
    const stack = each.tags[stackTag];
    if (stack !== undefined) {
      throw foreign(name, `the ${what} belongs to the CloudFormation stack ${stack}: update or delete the stack, or take another --name`);
    }
    if (!isOurs(each.tags, name)) {
      throw foreign(name, `the ${what} is there already and was not made by splitrun for ${name} (it lacks the tag ${ownerTag}=${name}): take another --name`);
    }
  }
}

/** Lambda has no way from one to the other. */
function refuseOtherKind({ function: own, stepUp }: FoundRuntime, kind: PackageKind): void {
  const other = [own, stepUp].find((each) => each !== null && each.packageKind !== kind) ?? null;
  if (other === null) return;
  const wayOut = other.packageKind === "image" ? "give its --image" : "leave --image out";
  throw new SplitrunError(`the function ${other.name} was made from ${other.packageKind === "image" ? "an image" : "a zip"} and cannot be changed to the other kind: ${wayOut}, or \`splitrun undeploy\` first`, {
    code: "RUNTIME_INVALID", field: "runtime.image", value: other.name,
  });
}

function foreign(name: string, message: string): SplitrunError {
  return new SplitrunError(message, { code: "RUNTIME_FOREIGN", field: "runtime.name", value: name });
}

/** The name of the second function, where there is one. */
export function stepUpNameIn(found: FoundRuntime, name: string): readonly string[] {
  return found.stepUp === null ? [name] : [name, stepUpNameOf(name)];
}

function sameJson(left: string, right: string): boolean {
  try {
    return canonical(JSON.parse(left)) === canonical(JSON.parse(right));
  } catch {
    return false;
  }
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === "object" && part !== null && !Array.isArray(part) ? Object.fromEntries(Object.entries(part).sort(([left], [right]) => (left < right ? -1 : 1))) : part);
}
