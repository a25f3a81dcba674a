import type { CreateFunctionCommandInput, UpdateFunctionConfigurationCommandInput } from "@aws-sdk/client-lambda";
import { logGroupOf } from "./documents.ts";
import type { FunctionState } from "./inspect.ts";
import { s3Url } from "../task-manager/s3-client.ts";
import type { Architecture, RuntimeSettings } from "./options.ts";
import { handler } from "./package-files.ts";
import type { RuntimeArtifact } from "./package-files.ts";

/** The code that a function should have, and by what it is known again. */
export type WantedCode =
  | { readonly kind: "zip"; readonly codeSha256: string; readonly contentSha256: string }
  | { readonly kind: "image"; readonly uri: string };

/** Marks what is ours: only that is changed and deleted. */
export const ownerTag = "splitrun:runtime";
export const artifactsTag = "splitrun:artifacts";
export const stagingTag = "splitrun:staging";
/** Where it staged before: what lies there goes with the runtime, too. */
const formerStagingTag = "splitrun:staged";
const tagValueCharactersMax = 256;

/** Everything that is set of one function of a runtime, its code aside. */
export type WantedState = Omit<FunctionState, "codeSha256" | "roleArn">;

export interface FunctionWish {
  readonly name: string;
  readonly packageKind: WantedCode["kind"];
  readonly state: WantedState;
  readonly reservedConcurrency: number | null;
  readonly tags: Readonly<Record<string, string>>;
}

export interface FunctionsWanted {
  readonly code: WantedCode;
  readonly artifacts: readonly RuntimeArtifact[];
  readonly names: readonly string[];
  /** Where was staged so far, by `stagingsOf`. */
  readonly stagings: readonly string[];
}

/** The function, and the one with more memory if there is to be one. */
export function wantedFunctions(settings: RuntimeSettings, { code, artifacts, names, stagings }: FunctionsWanted): readonly FunctionWish[] {
  const tags = { ...settings.tags, ...wantedTags(settings, artifacts, stagings) };
  return names.map((name, at) => ({
    name,
    packageKind: code.kind,
    tags,
    // What is kept for the first would be a second amount for the other: seldom used, it lives from what is left.
    reservedConcurrency: at === 0 ? settings.reservedConcurrency : null,
    state: {
      description: descriptionOf(code),
      // An image has its own.
      runtime: code.kind === "zip" ? settings.nodeRuntime : "",
      handler: code.kind === "zip" ? handler : "",
      memoryMb: at === 0 ? settings.memoryMb : settings.memoryStepUpMb ?? settings.memoryMb,
      timeoutSeconds: settings.timeoutSeconds,
      ephemeralMb: settings.ephemeralMb,
      architecture: settings.architecture,
      // Lambda does not tell the function, which says what it costs.
      environment: { ...settings.environment, [ephemeralVariable]: String(settings.ephemeralMb) },
      logGroup: logGroupOf(name),
      vpc: settings.vpc === null ? null : { subnetIds: settings.vpc.subnetIds.toSorted(), securityGroupIds: settings.vpc.securityGroupIds.toSorted() },
    },
  }));
}

function wantedTags({ name, stagingBucket }: RuntimeSettings, artifacts: readonly RuntimeArtifact[], stagings: readonly string[]): Readonly<Record<string, string>> {
  const staging = stagingBucket === null ? null : s3Url(stagingBucket);
  const former = asManyAsFit(stagings.filter((each) => each !== staging));
  return {
    [ownerTag]: name,
    ...(artifacts.length === 0 ? {} : { [artifactsTag]: artifactsText(artifacts) }),
    ...(staging === null ? {} : { [stagingTag]: staging }),
    ...(former === "" ? {} : { [formerStagingTag]: former }),
  };
}

/** Where functions with these tags stage, and where they did before, the latest first. */
export function stagingsOf(tagsOfEach: readonly Readonly<Record<string, string>>[]): readonly string[] {
  const now = tagsOfEach.flatMap((tags) => tags[stagingTag] ?? []);
  const before = tagsOfEach.flatMap((tags) => (tags[formerStagingTag] ?? "").split(" ").filter((text) => text !== ""));
  return [...new Set([...now, ...before])];
}

/** `sha256 of 12 characters/name`, as many as a tag can hold. */
function artifactsText(artifacts: readonly RuntimeArtifact[]): string {
  return asManyAsFit(artifacts.map(({ sha256, name }) => `${sha256.slice(0, 12)}/${name.replaceAll(/[^\w.-]/g, "_").slice(-40)}`).sort());
}

/** Into a tag. */
function asManyAsFit(texts: readonly string[]): string {
  let text = "";
  for (const each of texts) {
    const longer = text === "" ? each : `${text} ${each}`;
    if (longer.length <= tagValueCharactersMax) text = longer;
  }
  return text;
}

/** Those that are deployed, by what their tag says, and would not be any more. */
export function artifactsLost(tags: Readonly<Record<string, string>>, artifacts: readonly RuntimeArtifact[]): readonly string[] {
  const deployed = (tags[artifactsTag] ?? "").split(" ").filter((text) => text !== "");
  return deployed.filter((text) => !artifacts.some(({ sha256 }) => sha256.startsWith(text.slice(0, 12))));
}

/** Tells the same content from another one where two machines zip it into different bytes. */
function descriptionOf(code: WantedCode): string {
  const what = code.kind === "zip" ? `content ${code.contentSha256}; zip ${code.codeSha256}` : `image ${code.uri}`;
  return `splitrun ${__SPLITRUN_VERSION__}; ${what}`;
}

/** The function has this code already, though perhaps in another zip. */
export function hasCode(state: FunctionState, code: WantedCode): boolean {
  if (code.kind === "image") return state.description.endsWith(`; image ${code.uri}`);
  return state.codeSha256 === code.codeSha256 || state.description.endsWith(`; content ${code.contentSha256}; zip ${state.codeSha256}`);
}

/** What differs, in words. Values of the environment may be secrets: only their names are said. */
export function differences(found: FunctionState, wanted: WantedState, roleArn: string | null, code: WantedCode): readonly string[] {
  const changed = (what: string, from: unknown, to: unknown): readonly string[] => (from === to ? [] : [`${what} ${String(from)} → ${String(to)}`]);
  const names = new Set([...Object.keys(found.environment), ...Object.keys(wanted.environment)]);
  names.delete(coldStartVariable);
  return [
    ...changed("memory", `${found.memoryMb} MB`, `${wanted.memoryMb} MB`),
    ...changed("time-out", `${found.timeoutSeconds} s`, `${wanted.timeoutSeconds} s`),
    ...changed("/tmp", `${found.ephemeralMb} MB`, `${wanted.ephemeralMb} MB`),
    ...changed("runtime", found.runtime, wanted.runtime),
    ...changed("handler", found.handler, wanted.handler),
    ...changed("role", found.roleArn, roleArn ?? found.roleArn),
    ...changed("log group", found.logGroup, wanted.logGroup),
    ...changed("VPC", vpcText(found), vpcText(wanted)),
    ...[...names].sort().filter((name) => found.environment[name] !== wanted.environment[name]).map((name) => `environment ${name}`),
    // A description that belongs to other code than is there would make it pass for that.
    ...(code.kind === "zip" && hasCode(found, code) && found.description !== wanted.description && found.codeSha256 === code.codeSha256 ? ["description"] : []),
  ];
}

const ephemeralVariable = "SPLITRUN_EPHEMERAL_MB";

/** `ping` changes it on the unpublished function, to start one cold. */
export const coldStartVariable = "SPLITRUN_COLD_START";

function vpcText({ vpc }: Pick<FunctionState, "vpc">): string {
  return vpc === null ? "none" : `${vpc.subnetIds.join(" ")} ${vpc.securityGroupIds.join(" ")}`;
}

export type SetOfFunction = Pick<CreateFunctionCommandInput & UpdateFunctionConfigurationCommandInput,
  "Runtime" | "Handler" | "Description" | "Role" | "MemorySize" | "Timeout" | "EphemeralStorage" | "Environment" | "LoggingConfig" | "VpcConfig">;

/** All of CreateFunction but the code. */
export function createInput(wish: FunctionWish, roleArn: string): Omit<CreateFunctionCommandInput, "Code"> {
  const { name, state, tags, packageKind } = wish;
  return { ...functionInput(wish, roleArn), FunctionName: name, PackageType: packageKind === "zip" ? "Zip" : "Image", Architectures: [state.architecture as Architecture], Tags: { ...tags } };
}

/** As CreateFunction and UpdateFunctionConfiguration take it. */
export function functionInput({ state, packageKind }: FunctionWish, roleArn: string): SetOfFunction {
  const started = { Runtime: state.runtime as NonNullable<CreateFunctionCommandInput["Runtime"]>, Handler: state.handler };
  return {
    ...(packageKind === "zip" ? started : {}),
    Description: state.description,
    Role: roleArn,
    MemorySize: state.memoryMb,
    Timeout: state.timeoutSeconds,
    EphemeralStorage: { Size: state.ephemeralMb },
    Environment: { Variables: { ...state.environment } },
    LoggingConfig: { LogFormat: "Text", LogGroup: state.logGroup },
    VpcConfig: { SubnetIds: [...(state.vpc?.subnetIds ?? [])], SecurityGroupIds: [...(state.vpc?.securityGroupIds ?? [])] },
  };
}
