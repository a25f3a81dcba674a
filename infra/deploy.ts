/** A runtime: the functions on Lambda that Task Managers are, with the role and the log groups that they need. */
import { copyFile } from "node:fs/promises";
import { SplitrunError } from "../orchestrator/errors.ts";
import { stagingPlaces } from "../orchestrator/backends/lambda/staging.ts";
import { s3Url } from "../task-manager/s3-client.ts";
import { applyDeployment, applyRemoval, codePlace, forgetEnvironments } from "./apply.ts";
import { connectAws } from "./aws.ts";
import type { Aws } from "./aws.ts";
import { runtimeCost } from "./cost.ts";
import type { RuntimeCost } from "./cost.ts";
import { functionNames } from "./documents.ts";
import { deployFailure } from "./failure.ts";
import { findConcurrency, findFunction, inspectRuntime, isLive } from "./inspect.ts";
import type { FoundFunction, FoundRuntime } from "./inspect.ts";
import { aliasName, completeSettings } from "./options.ts";
import type { Architecture, NodeRuntime, RuntimeOptions, RuntimeSettings } from "./options.ts";
import { contentSha256Of } from "./package-files.ts";
import type { PackageFile, PackageOptions, RuntimeArtifact } from "./package-files.ts";
import { pingFunction } from "./ping.ts";
import type { Ping } from "./ping.ts";
import { planDeployment, planRemoval, stepUpNameIn } from "./plan.ts";
import type { Step } from "./plan.ts";
import { artifactsLost, artifactsTag, coldStartVariable, stagingsOf, stagingTag, wantedFunctions } from "./wanted.ts";
import type { WantedCode } from "./wanted.ts";
import { bytesOf, directZipBytesMax, partSizes, writePackageFolder, zipPackage } from "./zip-package.ts";
import type { PartSize, ZipPackage } from "./zip-package.ts";

export interface DeployHow {
  /** Models and modules that go into the package. */
  readonly artifacts: readonly RuntimeArtifact[];
  /** Those that are deployed now may go. */
  readonly dropArtifacts: boolean;
  /** Where what npm fetches is kept. */
  readonly cacheDir: string;
  /** Says what would be done, does nothing. */
  readonly dryRun: boolean;
  readonly onStep: (step: StepReport) => void;
  /** What a function is made of: `packageFiles`. */
  readonly filesOf: (options: PackageOptions) => Promise<readonly PackageFile[]>;
}

export interface StepReport {
  readonly resource: string;
  readonly action: "create" | "update" | "delete";
  readonly detail: string;
}

export interface PackageReport {
  readonly architecture: Architecture;
  readonly unzippedBytes: number;
  readonly parts: readonly PartSize[];
  readonly contentSha256: string;
  /** null: a folder. */
  readonly zip: {
    readonly bytes: number;
    /** As Lambda shows it. */
    readonly codeSha256: string;
    /** How it goes up; a limit of Lambda decides. */
    readonly upload: "direct" | "s3";
  } | null;
}

export interface DeployReport {
  readonly name: string;
  readonly region: string;
  readonly memoryMb: number;
  readonly timeoutSeconds: number;
  readonly ephemeralMb: number;
  readonly architecture: Architecture;
  /** Names of the functions, the one with more memory last. */
  readonly functions: readonly string[];
  readonly alias: string;
  /** null: an image. */
  readonly package: PackageReport | null;
  readonly image: string | null;
  /** Nothing in it: everything was as it should be. */
  readonly steps: readonly StepReport[];
  readonly changed: boolean;
  readonly dryRun: boolean;
  readonly cost: RuntimeCost;
  /** Invocations at once in this account and region; null: it may not be asked. */
  readonly concurrency: { readonly account: number; readonly unreserved: number } | null;
  /** null: it was not asked, in a dry run. */
  readonly ping: Ping | null;
}

export interface RemovalReport {
  readonly name: string;
  readonly region: string;
  readonly steps: readonly StepReport[];
  readonly changed: boolean;
  readonly dryRun: boolean;
}

/**
 * Makes what is there into what the options say, and asks the function whether it works. Nothing is done where nothing
 * differs; after a failure, the same call goes on from there.
 * @throws SplitrunError RUNTIME_INVALID, RUNTIME_STAGING, RUNTIME_FOREIGN, RUNTIME_ARTIFACTS, PACKAGE_TOO_LARGE, AWS_CREDENTIALS, AWS_PERMISSION …
 */
export async function deployRuntime(options: RuntimeOptions, how: DeployHow): Promise<DeployReport> {
  const settings = completeSettings(options);
  return withAws(settings.region, async (aws) => {
    await checkStaging(aws, settings);
    return deploy(aws, settings, functionNames(settings), { ...how, codeOnly: false });
  });
}

/**
 * Gives the functions new code and leaves their settings. Invocations that run end with the code that they began with.
 * @throws SplitrunError RUNTIME_NOT_FOUND, and as `deployRuntime`
 */
export async function redeployRuntime(options: Pick<RuntimeOptions, "name" | "region" | "stagingBucket" | "image">, how: DeployHow): Promise<DeployReport> {
  const given = completeSettings(options);
  return withAws(given.region, async (aws) => {
    const found = await inspectRuntime(aws, given.name);
    if (found.function === null) throw notDeployed(given.name, aws.region);
    await checkStaging(aws, given);
    return deploy(aws, settingsOf(given, found, found.function), stepUpNameIn(found, given.name), { ...how, codeOnly: true });
  });
}

/**
 * Removes everything that deploying has made: functions, role, log groups, and what is staged in S3 for them.
 * @throws SplitrunError RUNTIME_FOREIGN, AWS_CREDENTIALS, AWS_PERMISSION …
 */
export async function deleteRuntime(options: Pick<RuntimeOptions, "name" | "region" | "stagingBucket">, how: Pick<DeployHow, "dryRun" | "onStep">): Promise<RemovalReport> {
  const { name, region, stagingBucket } = completeSettings(options);
  return withAws(region, async (aws) => {
    const found = await inspectRuntime(aws, name);
    const stagings = [...(stagingBucket === null ? [] : [s3Url(stagingBucket)]), ...stagingsIn(found)];
    const steps = planRemoval(found, name, [...new Set(stagings)]);
    if (!how.dryRun) await applyRemoval(steps, { aws, found, name, onStep: (step) => how.onStep(reportOf(step)) });
    return { name, region: aws.region, steps: steps.map(reportOf), changed: steps.length > 0, dryRun: how.dryRun };
  });
}

/** Whether there is a function of this name, whoever made it. */
export async function isDeployed(options: Pick<RuntimeOptions, "name" | "region">): Promise<boolean> {
  const { name, region } = completeSettings(options);
  return withAws(region, async (aws) => isLive(aws, name));
}

export interface PingReport {
  readonly name: string;
  readonly region: string;
  /** null: every answer came from an environment that was there already. */
  readonly cold: Ping | null;
  /** In the order of asking; the first may be the cold one. */
  readonly pings: readonly Ping[];
  /** Of those that were not cold; null: there were none. */
  readonly warmMs: { readonly median: number; readonly min: number; readonly max: number } | null;
}

export interface PingHow {
  /** How often; the first may start an environment. */
  readonly times: number;
  /** Starts one for certain: on the unpublished function, by a variable of its environment, so nothing that runs notices. */
  readonly cold: boolean;
}

/**
 * Measures the start of a new environment and the answers of one that is there.
 * @throws SplitrunError LAMBDA_NOT_DEPLOYED, RUNTIME_BROKEN …
 */
export async function pingRuntime(options: Pick<RuntimeOptions, "name" | "region">, { times, cold }: PingHow): Promise<PingReport> {
  const { name, region } = completeSettings(options);
  return withAws(region, async (aws) => {
    if (cold) {
      const found = await findFunction(aws, name);
      if (found === null) throw notDeployed(name, aws.region);
      await forgetEnvironments(aws, name, found.latest.environment);
    }
    const pings: Ping[] = [];
    for (let asked = 0; asked < times; asked += 1) pings.push(await pingFunction(aws.lambda, name, cold ? "$LATEST" : aliasName));
    const warm = pings.filter((ping) => !ping.cold).map(({ roundTripMs }) => roundTripMs).sort((left, right) => left - right);
    const [min = 0] = warm;
    return {
      name, region: aws.region, pings, cold: pings.find((ping) => ping.cold) ?? null,
      warmMs: warm.length === 0 ? null : { min, median: warm[Math.floor(warm.length / 2)] ?? min, max: warm.at(-1) ?? min },
    };
  });
}

export interface WritePackageHow extends Pick<DeployHow, "artifacts" | "cacheDir" | "filesOf"> {
  /** Ends with `.zip`: that file. Else a folder, which a container image can be built from. */
  readonly to: string;
}

/** Writes what would be deployed, for those who deploy by other means. */
export async function writePackage(options: RuntimeOptions, { artifacts, cacheDir, filesOf, to }: WritePackageHow): Promise<PackageReport> {
  const { architecture } = completeSettings(options);
  const files = await filesOf({ architecture, artifacts, cacheDir });
  if (!to.endsWith(".zip")) {
    await writePackageFolder(files, to);
    return packageReport(files, architecture, null);
  }
  const zip = await zipPackage(files, cacheDir);
  await copyFile(zip.path, to);
  return packageReport(files, architecture, zip);
}

async function withAws<T>(region: string | null, work: (aws: Aws) => Promise<T>): Promise<T> {
  const aws = await connectAws(region);
  try {
    return await work(aws);
  } finally {
    aws.close();
  }
}

async function deploy(aws: Aws, settings: RuntimeSettings, names: readonly string[], how: DeployHow & { readonly codeOnly: boolean }): Promise<DeployReport> {
  const packed = settings.image === null ? await pack(settings, how) : null;
  if (packed === null) refuseArtifactsBesideImage(how.artifacts);
  else if (packed.zip.zippedBytes > directZipBytesMax) codePlace(packed.zip, settings.stagingBucket, settings.name);
  const found = await inspectRuntime(aws, settings.name);
  if (!how.dropArtifacts) refuseLostArtifacts(found, how.artifacts);
  const code: WantedCode = packed === null ? { kind: "image", uri: settings.image ?? "" } : { kind: "zip", ...packed.zip };
  const wishes = wantedFunctions(settings, { code, artifacts: how.artifacts, names, stagings: stagingsIn(found) });
  const steps = planDeployment(found, { settings, code, wishes, codeOnly: how.codeOnly });
  if (!how.dryRun) await applyDeployment(steps, { aws, found, name: settings.name, settings, zip: packed?.zip ?? null, onStep: (step) => how.onStep(reportOf(step)) });
  return {
    name: settings.name,
    region: aws.region,
    memoryMb: settings.memoryMb,
    timeoutSeconds: settings.timeoutSeconds,
    ephemeralMb: settings.ephemeralMb,
    architecture: settings.architecture,
    functions: names,
    alias: aliasName,
    package: packed === null ? null : packageReport(packed.files, settings.architecture, packed.zip),
    image: settings.image,
    steps: steps.map(reportOf),
    changed: steps.length > 0,
    dryRun: how.dryRun,
    cost: runtimeCost({ ...settings, region: aws.region }),
    concurrency: await findConcurrency(aws),
    ping: how.dryRun ? null : await pingFunction(aws.lambda, settings.name, aliasName),
  };
}

async function pack({ architecture }: RuntimeSettings, { artifacts, cacheDir, filesOf }: DeployHow): Promise<{ readonly files: readonly PackageFile[]; readonly zip: ZipPackage }> {
  const files = await filesOf({ architecture, artifacts, cacheDir });
  return { files, zip: await zipPackage(files, cacheDir) };
}

function refuseArtifactsBesideImage(artifacts: readonly RuntimeArtifact[]): void {
  const [first] = artifacts;
  if (first === undefined) return;
  throw new SplitrunError(`${first.name} has to be inside of the image: give it to \`splitrun deploy --package FOLDER\`, which writes what the image is built from`, { code: "RUNTIME_INVALID", field: "runtime.image", value: first.name });
}

function packageReport(files: readonly PackageFile[], architecture: Architecture, zip: ZipPackage | null): PackageReport {
  return {
    architecture,
    unzippedBytes: bytesOf(files),
    parts: partSizes(files),
    contentSha256: contentSha256Of(files),
    zip: zip === null ? null : { bytes: zip.zippedBytes, codeSha256: zip.codeSha256, upload: zip.zippedBytes <= directZipBytesMax ? "direct" : "s3" },
  };
}

function reportOf({ resource, action, detail }: Step): StepReport {
  return { resource, action, detail };
}

/** What is deployed, said as settings. */
function settingsOf(given: RuntimeSettings, found: FoundRuntime, { latest, tags, reservedConcurrency }: FoundFunction): RuntimeSettings {
  const { [coldStartVariable]: _coldStart, ...environment } = latest.environment;
  const staging = tags[stagingTag];
  return {
    ...completeSettings(staging === undefined ? {} : { stagingBucket: staging }),
    ...(given.stagingBucket === null ? {} : { stagingBucket: given.stagingBucket }),
    name: given.name,
    image: given.image,
    region: found.region,
    memoryMb: latest.memoryMb,
    timeoutSeconds: latest.timeoutSeconds,
    ephemeralMb: latest.ephemeralMb,
    architecture: latest.architecture as Architecture,
    // An image says none.
    ...(latest.runtime === "" ? {} : { nodeRuntime: latest.runtime as NodeRuntime }),
    environment,
    reservedConcurrency,
    memoryStepUpMb: found.stepUp?.latest.memoryMb ?? null,
    vpc: latest.vpc,
  };
}

function stagingsIn({ function: own, stepUp }: FoundRuntime): readonly string[] {
  return stagingsOf([own, stepUp].flatMap((each) => (each === null ? [] : [each.tags])));
}

const ofTheBucket: ReadonlySet<string> = new Set(["S3_NO_SUCH_BUCKET", "S3_ACCESS_DENIED", "S3_WRONG_REGION"]);

/**
 * Jobs would find out later, and `undeploy` would not get at what is there. Asked for is what it takes to see that, of
 * the one folder alone.
 */
async function checkStaging({ s3 }: Aws, { stagingBucket, name }: Pick<RuntimeSettings, "stagingBucket" | "name">): Promise<void> {
  if (stagingBucket === null) return;
  try {
    await s3.list(stagingPlaces(stagingBucket, name).folder, { startAfter: null }).next();
  } catch (error) {
    const refused = deployFailure(error, "s3:ListBucket");
    if (!ofTheBucket.has(refused.code)) throw refused;
    throw new SplitrunError(`--staging-bucket ${s3Url(stagingBucket)} cannot be used, nothing was done: ${refused.message}; make the bucket (\`aws s3 mb s3://${stagingBucket.bucket}\`), ask for the right, or name another`, {
      code: "RUNTIME_STAGING", field: "runtime.stagingBucket", value: s3Url(stagingBucket), cause: error,
    });
  }
}

/** A job that runs asks new environments for the model: without it there they would be of no use to it. */
function refuseLostArtifacts({ function: own }: FoundRuntime, artifacts: readonly RuntimeArtifact[]): void {
  const lost = artifactsLost(own?.tags ?? {}, artifacts);
  if (lost.length === 0) return;
  const names = lost.map((text) => text.replace(/^(\w+)\/(.*)$/, "$2 (sha256 $1…)")).join(", ");
  throw new SplitrunError(
    `the function holds ${names}, which jobs may be using, and would lose it: give it again (--model, --module or the job file), or --drop-artifacts`,
    { code: "RUNTIME_ARTIFACTS", field: "runtime.artifacts", value: own?.tags[artifactsTag] },
  );
}

function notDeployed(name: string, region: string): SplitrunError {
  return new SplitrunError(`there is no runtime ${name} in ${region}: run \`splitrun deploy\`, or give --name or --region`, { code: "RUNTIME_NOT_FOUND", field: "runtime.name", value: name });
}
