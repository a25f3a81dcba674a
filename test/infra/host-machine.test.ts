import { once } from "node:events";
import { createServer } from "node:http";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hostMachine } from "../../infra/host-machine.ts";

/** As the EC2 guide has it: a token by PUT, which every GET must bring; lists are lines. */
const metadata: Readonly<Record<string, string>> = {
  "mac": "02:aa",
  "placement/region": "eu-central-1",
  "local-ipv4": "10.0.1.5",
  "network/interfaces/macs/": "02:aa/\n02:bb/\n02:cc/\n",
  "network/interfaces/macs/02:aa/vpc-id": "vpc-1",
  "network/interfaces/macs/02:aa/subnet-id": "subnet-b",
  "network/interfaces/macs/02:aa/security-group-ids": "sg-2\nsg-1",
  "network/interfaces/macs/02:bb/vpc-id": "vpc-1",
  "network/interfaces/macs/02:bb/subnet-id": "subnet-a",
  "network/interfaces/macs/02:bb/security-group-ids": "sg-9",
  "network/interfaces/macs/02:cc/vpc-id": "vpc-2",
  "network/interfaces/macs/02:cc/subnet-id": "subnet-z",
  "network/interfaces/macs/02:cc/security-group-ids": "sg-9",
};

let server: Server;
let endpoint: string;

beforeAll(async () => {
  server = createServer((request, response) => {
    const path = request.url ?? "";
    if (path === "/latest/api/token") {
      const allowed = request.method === "PUT" && Number(request.headers["x-aws-ec2-metadata-token-ttl-seconds"]) > 0;
      return void response.writeHead(allowed ? 200 : 403).end(allowed ? "token-1" : "");
    }
    if (request.headers["x-aws-ec2-metadata-token"] !== "token-1") return void response.writeHead(401).end();
    const text = metadata[path.replace("/latest/meta-data/", "")];
    response.writeHead(text === undefined ? 404 : 200).end(text);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterAll(() => {
  server.close();
  server.closeAllConnections();
});

describe("the machine that the orchestrator runs on", () => {
  test("is in the VPC of its first interface, with all of its subnets there and the first one's security groups", async () => {
    expect(await hostMachine({ AWS_EC2_METADATA_SERVICE_ENDPOINT: endpoint })).toEqual({
      region: "eu-central-1", vpcId: "vpc-1", privateAddress: "10.0.1.5", vpc: { subnetIds: ["subnet-a", "subnet-b"], securityGroupIds: ["sg-1", "sg-2"] },
    });
  });

  test.each([
    ["nobody answers", { AWS_EC2_METADATA_SERVICE_ENDPOINT: "http://127.0.0.1:9" }, "nothing answers"],
    ["it may not be asked", { AWS_EC2_METADATA_DISABLED: "true" }, "AWS_EC2_METADATA_DISABLED"],
  ])("is not found where %s, and the error says what to do instead", async (_why, environment, words) => {
    const error = await hostMachine(environment).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "HOST_MACHINE" });
    expect(String(error)).toContain(words);
    expect(String(error)).toContain("--subnet and --security-group");
  });
});
