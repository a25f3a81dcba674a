import path from "node:path";
import type { Command } from "commander";
import { defaultCacheDir } from "../jobs/content-cache.ts";
import { deployRuntime, redeployRuntime, writeRuntimePackage, type DeployReport, type PackageReport, type RuntimeHow } from "../service/runtime.ts";
import { pingText } from "./ping.ts";
import { addArtifactFlags, addNameFlags, addSettingFlags, requestOf, stepText, type RuntimeFlags } from "./runtime-flags.ts";

interface DeployFlags extends RuntimeFlags {
  readonly dryRun?: true;
  readonly package?: string;
}

const deployExamples = `
Examples
  What would be done, without doing it:
    splitrun deploy --dry-run
  With the model inside, two cores, and leave to read the images:
    splitrun deploy --model model.onnx --memory-mb 3538 --read s3://bucket/photos/
  Then a job runs there:
    splitrun run --backend lambda --input s3://bucket/photos/ --model model.onnx --output out

It needs AWS credentials (AWS_PROFILE, or keys) and the permissions in docs/backends/lambda.md. Nothing that costs money
while idle is made. \`splitrun undeploy\` removes all of it.`;

export function addDeploy(program: Command): void {
  const command = program
    .command("deploy")
    .summary("make the runtime on AWS Lambda, or bring it up to date")
    .description("Builds the Task Managers' package and makes or updates role, log group, function and alias, then asks the function whether it works.\nDoes nothing where nothing has changed; goes on where it failed.")
    .argument("[job]", "job file whose model or module goes into the package")
    .addHelpText("after", deployExamples);
  addSettingFlags(addArtifactFlags(addNameFlags(command)))
    .option("--package <path>", "only write the package: a .zip, or a folder for a container image")
    .option("--dry-run", "say what would be done, and do nothing")
    .option("--json", "one JSON object on stdout; everything else on stderr")
    .action((job: string | undefined, flags: DeployFlags) => (flags.package === undefined ? deploy(job, flags) : writePackage(job, flags, flags.package)));
}

export function addRedeploy(program: Command): void {
  const command = program
    .command("redeploy")
    .summary("give the runtime new code, and leave its settings")
    .description("Replaces the code while jobs run: invocations that have begun end with the old one, new ones get the new.")
    .argument("[job]", "job file whose model or module goes into the package");
  addArtifactFlags(addNameFlags(command))
    .option("--staging-bucket <bucket>", "another bucket or s3://bucket/prefix/ for models and packages above 50 MB")
    .option("--dry-run", "say what would be done, and do nothing")
    .option("--json", "one JSON object on stdout; everything else on stderr")
    .action(async (job: string | undefined, flags: DeployFlags) => show(await redeployRuntime(requestOf(flags, job), howOf(flags)), flags));
}

async function deploy(job: string | undefined, flags: DeployFlags): Promise<void> {
  show(await deployRuntime(requestOf(flags, job), howOf(flags)), flags);
}

async function writePackage(job: string | undefined, flags: DeployFlags, to: string): Promise<void> {
  const report = await writeRuntimePackage(requestOf(flags, job), { cacheDir: defaultCacheDir(process.env), to: path.resolve(to) });
  process.stdout.write(flags.json ? `${JSON.stringify(report)}\n` : `${to}: ${packageText(report)}\n`);
}

function howOf(flags: DeployFlags): RuntimeHow {
  return { cacheDir: defaultCacheDir(process.env), dryRun: flags.dryRun ?? false, onStep: (step) => process.stderr.write(`${stepText(step)}\n`) };
}

function show(report: DeployReport, { json }: DeployFlags): void {
  process.stdout.write(json ? `${JSON.stringify(report)}\n` : `${reportText(report).join("\n")}\n`);
}

function reportText(report: DeployReport): readonly string[] {
  const { name, region, memoryMb, timeoutSeconds, architecture, steps, changed, dryRun, ping, functions, concurrency } = report;
  return [
    report.package === null ? `Image: ${report.image ?? ""}` : `Package: ${packageText(report.package)}`,
    ...(dryRun ? [changed ? "Would do:" : "Would do nothing: all is as it should be", ...steps.map(stepText)] : changed ? [] : ["Nothing to do: all is as it should be"]),
    `${functions.join(" and ")} in ${region}: ${memoryMb} MB (${coresText(memoryMb)}), ${timeoutSeconds} s, ${architecture}`,
    costText(report),
    ...(concurrency === null ? [] : [concurrencyText(concurrency)]),
    ...(ping === null ? [] : [pingText(ping)]),
    ...(dryRun ? [] : [`Use it: splitrun run --backend lambda …${name === "splitrun" ? "" : ` --set backend.functionName=${name}`}`]),
  ];
}

function packageText({ architecture, zip, unzippedBytes, parts }: PackageReport): string {
  const of = parts.map(({ part, bytes }) => `${part} ${megabytes(bytes)}`).join(", ");
  const zipped = zip === null ? "" : `${megabytes(zip.bytes)} zipped (${zip.upload === "direct" ? "goes up directly: at most 52.4 MB" : "above 52.4 MB: goes up through S3"}), `;
  return `${zipped}${megabytes(unzippedBytes)} unzipped of at most 262.1 MB (${of}), linux ${architecture}`;
}

function costText({ region, cost: { thousandSecondsUsd, millionRequestsUsd, pricesDate, pricesRegion } }: DeployReport): string {
  const whose = pricesRegion === region ? "" : ` of ${pricesRegion}`;
  return `Cost: $${thousandSecondsUsd.toFixed(4)} per 1000 s of a Task Manager at work, $${millionRequestsUsd.toFixed(2)} per million invocations (prices${whose} as of ${pricesDate}); idle: nothing`;
}

function concurrencyText({ account, unreserved }: NonNullable<DeployReport["concurrency"]>): string {
  const reserved = account === unreserved ? "" : ` (${account - unreserved} of it reserved by functions)`;
  const few = account < 1000 ? "; ask for more in Service Quotas, Lambda, Concurrent executions" : "";
  return `Account: at most ${account} invocations at once in this region${reserved}${few}`;
}

/** Lambda guide, quotas: a core is 1769 MB. */
function coresText(memoryMb: number): string {
  return `${(memoryMb / 1769).toFixed(1)} cores`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
