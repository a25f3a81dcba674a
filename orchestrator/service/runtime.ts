/** The runtime on Lambda, for the command line and the library. What deploys it is loaded by its first use. */
import type { DeployHow, DeployReport, PackageReport, PingReport, RemovalReport, StepReport } from "../../infra/deploy.ts";
import type { RuntimeOptions } from "../../infra/options.ts";
import type { RuntimeArtifact } from "../../infra/package-files.ts";
import { prepareArtifacts } from "../jobs/artifacts.ts";
import type { Job } from "../jobs/schema.ts";
import { prepareJob } from "./prepare-job.ts";

export type { DeployReport, PackageReport, PingReport, RemovalReport, StepReport } from "../../infra/deploy.ts";
export type { RuntimeOptions } from "../../infra/options.ts";
export type { Ping } from "../../infra/ping.ts";

/** A runtime, and what it should hold so that jobs need not send it. */
export interface RuntimeRequest extends RuntimeOptions {
  /** A job, or the path of its file, whose model or module goes into the package. */
  readonly job?: Job | string;
  /** A model (path, URL or s3://) that goes into the package. */
  readonly model?: string;
  /** A function's module that goes into the package. */
  readonly module?: string;
  /** What it holds now and is not given again may go. @default false */
  readonly dropArtifacts?: boolean;
  /** Into the VPC, subnets and security groups of the EC2 machine that this runs on. @default false */
  readonly ec2HostMachine?: boolean;
}

export interface RuntimeHow {
  readonly cacheDir: string;
  /** Says what would be done, does nothing. @default false */
  readonly dryRun?: boolean;
  /** Told before each step. */
  readonly onStep?: (step: StepReport) => void;
}

const infra = () => import("../../infra/deploy.ts");
const filesOf: DeployHow["filesOf"] = async (options) => (await import("../../infra/package-files.ts")).packageFiles(options);

/** Makes the runtime what the request says; does nothing where nothing differs. @throws SplitrunError */
export async function deployRuntime(request: RuntimeRequest, how: RuntimeHow): Promise<DeployReport> {
  const { options, ...rest } = await deployment(request, how);
  return (await infra()).deployRuntime({ ...(request.ec2HostMachine === true ? await besideThisMachine() : {}), ...options }, rest);
}

/** New code, and its settings as they are; invocations that run are not disturbed. @throws SplitrunError */
export async function redeployRuntime(request: RuntimeRequest, how: RuntimeHow): Promise<DeployReport> {
  const { options, ...rest } = await deployment(request, how);
  return (await infra()).redeployRuntime(options, rest);
}

/** Removes everything that deploying has made. @throws SplitrunError */
export async function deleteRuntime(request: RuntimeRequest, { dryRun = false, onStep = () => undefined }: Omit<RuntimeHow, "cacheDir">): Promise<RemovalReport> {
  return (await infra()).deleteRuntime(splitRequest(request).options, { dryRun, onStep });
}

/** Measures the start of a new environment, if one is started, and the answers of one that is there. @throws SplitrunError */
export async function pingRuntime(request: RuntimeRequest, how: { readonly times: number; readonly cold: boolean }): Promise<PingReport> {
  return (await infra()).pingRuntime(splitRequest(request).options, how);
}

/** Writes the package that would be deployed: a `.zip`, or a folder. @throws SplitrunError */
export async function writeRuntimePackage(request: RuntimeRequest, { cacheDir, to }: { readonly cacheDir: string; readonly to: string }): Promise<PackageReport> {
  return (await infra()).writePackage(splitRequest(request).options, { cacheDir, to, filesOf, artifacts: await artifactsOf(request, cacheDir) });
}

/** Deploys what is missing, and leaves alone what is there. @throws SplitrunError */
export async function initializeRuntime(request: RuntimeRequest, how: RuntimeHow): Promise<void> {
  const { isDeployed } = await infra();
  if (!(await isDeployed(splitRequest(request).options))) await deployRuntime(request, how);
}

async function besideThisMachine(): Promise<Pick<RuntimeOptions, "region" | "vpc">> {
  const { hostMachine } = await import("../../infra/host-machine.ts");
  const { region, vpc } = await hostMachine(process.env);
  return { region, vpc };
}

async function deployment(request: RuntimeRequest, { cacheDir, dryRun = false, onStep = () => undefined }: RuntimeHow) {
  const { options, dropArtifacts } = splitRequest(request);
  return { options, dropArtifacts, cacheDir, dryRun, onStep, filesOf, artifacts: await artifactsOf(request, cacheDir) };
}

function splitRequest({ job: _job, model: _model, module: _module, ec2HostMachine: _ec2HostMachine, dropArtifacts = false, ...options }: RuntimeRequest): { readonly options: RuntimeOptions; readonly dropArtifacts: boolean } {
  return { options, dropArtifacts };
}

async function artifactsOf({ job, model, module }: RuntimeRequest, cacheDir: string): Promise<readonly RuntimeArtifact[]> {
  const tasks: readonly Job["task"][] = [
    ...(model === undefined ? [] : [{ kind: "inference" as const, model }]),
    ...(module === undefined ? [] : [{ kind: "function" as const, module }]),
  ];
  const jobs: readonly (Job | string)[] = [...(job === undefined ? [] : [job]), ...tasks.map((task): Job => ({ input: "-", task }))];
  const lists = await Promise.all(jobs.map((each) => artifactsOfJob(each, cacheDir)));
  return [...new Map(lists.flat().map((artifact) => [artifact.sha256, artifact])).values()];
}

async function artifactsOfJob(source: Job | string, cacheDir: string): Promise<readonly RuntimeArtifact[]> {
  const { job } = await prepareJob(source, {}, { cwd: process.cwd(), stdin: process.stdin, offer: null, items: null });
  const { task, artifacts } = await prepareArtifacts(job, { cacheDir });
  const { sha256, name } = task.kind === "inference" ? task.model : task.module;
  return [...artifacts].map(([hash, { path, bytes }]) => ({ sha256: hash, bytes, path, name: hash === sha256 ? name : hash }));
}
