import { SplitrunError } from "../orchestrator/errors.ts";
import type { Vpc } from "./options.ts";

/** An EC2 machine as its metadata service describes it. */
export interface HostMachine {
  readonly region: string;
  readonly vpcId: string;
  readonly vpc: Vpc;
  readonly privateAddress: string;
}

/** Elsewhere than on EC2 the address hangs. */
const timeoutMs = 2000;
const tokenSeconds = 300;
const addressDefault = "http://169.254.169.254";

/**
 * Asks the machine's metadata service (IMDSv2) in which VPC, subnets and security groups it is.
 * @throws SplitrunError HOST_MACHINE when this is no EC2 machine, or it does not say
 */
export async function hostMachine(environment: Readonly<Record<string, string | undefined>>): Promise<HostMachine> {
  if (environment["AWS_EC2_METADATA_DISABLED"]?.toLowerCase() === "true") throw notFound("AWS_EC2_METADATA_DISABLED is set");
  const endpoint = environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] ?? addressDefault;
  const ask = (path: string, init: RequestInit): Promise<string> => answer(new URL(path, endpoint), init);
  const token = await ask("/latest/api/token", { method: "PUT", headers: { "x-aws-ec2-metadata-token-ttl-seconds": String(tokenSeconds) } });
  const read = (path: string): Promise<string> => ask(`/latest/meta-data/${path}`, { headers: { "x-aws-ec2-metadata-token": token } });

  const mac = await read("mac");
  const [region, privateAddress, macs] = await Promise.all([read("placement/region"), read("local-ipv4"), read("network/interfaces/macs/")]);
  const interfaces = await Promise.all(linesOf(macs).map(async (line) => {
    const of = `network/interfaces/macs/${line.replace(/\/$/, "")}`;
    const [vpcId, subnetId, groups] = await Promise.all([read(`${of}/vpc-id`), read(`${of}/subnet-id`), read(`${of}/security-group-ids`)]);
    return { mac: line.replace(/\/$/, ""), vpcId, subnetId, securityGroupIds: linesOf(groups) };
  }));
  const first = interfaces.find((each) => each.mac === mac);
  if (first === undefined) throw notFound(`it does not describe the interface ${mac}`);
  // A function can be in one VPC only.
  const subnetIds = new Set(interfaces.filter(({ vpcId }) => vpcId === first.vpcId).map(({ subnetId }) => subnetId));
  return { region, vpcId: first.vpcId, privateAddress, vpc: { subnetIds: [...subnetIds].sort(), securityGroupIds: [...first.securityGroupIds].sort() } };
}

async function answer(url: URL, init: RequestInit): Promise<string> {
  const response = await fetch(url, { ...init, signal: AbortSignal.timeout(timeoutMs), redirect: "error" }).catch((cause: unknown) => {
    throw notFound(`nothing answers at ${url.origin}`, cause);
  });
  const text = await response.text();
  if (!response.ok) throw notFound(`${url.pathname} answered ${response.status}`);
  return text.trim();
}

function linesOf(text: string): readonly string[] {
  return text.split("\n").map((line) => line.trim()).filter((line) => line !== "");
}

function notFound(why: string, cause?: unknown): SplitrunError {
  return new SplitrunError(
    `the VPC of this machine could not be found by its metadata service (${why}): run on EC2 with IMDSv2 on (in a container with a hop limit of 2), or give --subnet and --security-group`,
    { code: "HOST_MACHINE", field: "ec2HostMachine", cause },
  );
}
