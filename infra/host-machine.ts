import { instanceMetadata, type ReadInstanceMetadata } from "../orchestrator/backends/lambda/instance-metadata.ts";
import { SplitrunError } from "../orchestrator/errors.ts";
import type { Vpc } from "./options.ts";

/** An EC2 machine as its metadata service describes it. */
export interface HostMachine {
  readonly region: string;
  readonly vpcId: string;
  readonly vpc: Vpc;
  readonly privateAddress: string;
}

/**
 * Asks the machine's metadata service (IMDSv2) in which VPC, subnets and security groups it is.
 * @throws SplitrunError HOST_MACHINE when this is no EC2 machine, or it does not say
 */
export async function hostMachine(environment: Readonly<Record<string, string | undefined>>): Promise<HostMachine> {
  try {
    return await described(await instanceMetadata(environment));
  } catch (error) {
    throw notFound(error);
  }
}

async function described(read: ReadInstanceMetadata): Promise<HostMachine> {
  const mac = await read("mac");
  const [region, privateAddress, macs] = await Promise.all([read("placement/region"), read("local-ipv4"), read("network/interfaces/macs/")]);
  const interfaces = await Promise.all(linesOf(macs).map(async (line) => {
    const of = `network/interfaces/macs/${line.replace(/\/$/, "")}`;
    const [vpcId, subnetId, groups] = await Promise.all([read(`${of}/vpc-id`), read(`${of}/subnet-id`), read(`${of}/security-group-ids`)]);
    return { mac: line.replace(/\/$/, ""), vpcId, subnetId, securityGroupIds: linesOf(groups) };
  }));
  const first = interfaces.find((each) => each.mac === mac);
  if (first === undefined) throw new Error(`it does not describe the interface ${mac}`);
  // A function can be in one VPC only.
  const subnetIds = new Set(interfaces.filter(({ vpcId }) => vpcId === first.vpcId).map(({ subnetId }) => subnetId));
  return { region, vpcId: first.vpcId, privateAddress, vpc: { subnetIds: [...subnetIds].sort(), securityGroupIds: [...first.securityGroupIds].sort() } };
}

function linesOf(text: string): readonly string[] {
  return text.split("\n").map((line) => line.trim()).filter((line) => line !== "");
}

function notFound(cause: unknown): SplitrunError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new SplitrunError(
    `the VPC of this machine could not be found by its metadata service (${why}): run on EC2 with IMDSv2 on (in a container with a hop limit of 2), or give --subnet and --security-group`,
    { code: "HOST_MACHINE", field: "ec2HostMachine", cause },
  );
}
