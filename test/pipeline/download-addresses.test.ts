import type { LookupAddress } from "node:dns";
import { lookup as systemLookup } from "node:dns";
import { createServer } from "node:net";
import type { AddressInfo, LookupFunction } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isMetadataAddress } from "../../task-manager/http/addresses.ts";
import type { Network } from "../../task-manager/http/network.ts";
import { systemNetwork } from "../../task-manager/http/network.ts";
import { createDownloader } from "../../task-manager/pipeline/download.ts";
import { downloadSpec } from "../support/download-spec.ts";
import { startFaultServer } from "../support/fault-server.ts";
import type { FaultServer } from "../support/fault-server.ts";

let server: FaultServer;

beforeAll(async () => { server = await startFaultServer(); });
afterAll(async () => { await server.stop(); });

/** Answers with these addresses in turn, the last one for ever. */
function resolvingTo(...answers: readonly (readonly string[])[]): LookupFunction & { readonly asked: () => number } {
  let asked = 0;
  const lookup: LookupFunction = (_hostname, options, callback) => {
    const addresses: LookupAddress[] = (answers[Math.min(asked, answers.length - 1)] ?? [])
      .map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));
    asked += 1;
    if (options.all === true) callback(null, addresses);
    else callback(null, addresses[0]?.address ?? "", addresses[0]?.family ?? 4);
  };
  return Object.assign(lookup, { asked: () => asked });
}

async function download(input: string, network: Network = systemNetwork, idleTimeoutMs = 5000): Promise<unknown> {
  const downloader = createDownloader(downloadSpec({ idleTimeoutMs }), network);
  try {
    return await downloader.download(input);
  } finally {
    await downloader.close();
  }
}

const forbidden = { code: "DOWNLOAD_FORBIDDEN_ADDRESS", stage: "download", retryable: false };

describe("cloud metadata is never asked", () => {
  test.each([
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.169.254./",
    "http://169.254.170.2/v2/credentials",
    "http://169.254.170.23/",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://0xa9.0xfe.0xa9.0xfe/",
    "http://0251.0376.0251.0376/",
    "http://169.254.43518/",
    "http://１６９.254.169.254/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[::169.254.169.254]/",
    "http://[64:ff9b::169.254.169.254]/",
    "http://[64:ff9b:1::a9fe:a9fe]/",
    "http://[2002:a9fe:a9fe::]/",
    "http://[fd00:ec2::254]/",
    "http://[fd00:ec2::23]/",
    "http://[fd20:ce::254]/",
    "http://[fe80::a9fe:a9fe]/",
    "http://100.100.100.200/",
    "http://168.63.129.16/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://METADATA.google.internal./",
    "https://169.254.169.254/",
    "http://user:pass@169.254.169.254:80/",
  ])("%s", async (url) => {
    await expect(download(url)).rejects.toMatchObject(forbidden);
  });

  test("by redirect, whatever its spelling", async () => {
    await expect(download(`${server.origin}/redirect-to-metadata`)).rejects.toMatchObject(forbidden);
    const spelt = encodeURIComponent("http://[::ffff:a9fe:a9fe]/latest");
    await expect(download(`${server.origin}/redirect-to?url=${spelt}`)).rejects.toMatchObject(forbidden);
    await expect(download(`${server.origin}/redirect-to?url=${encodeURIComponent("//2852039166/latest")}`)).rejects.toMatchObject(forbidden);
  });

  test.each([
    [["169.254.169.254"]],
    [["::ffff:169.254.169.254"]],
    [["fd00:ec2::254"]],
    [["127.0.0.1", "169.254.169.254"]],
  ])("by a name that resolves to %j, and nothing is sent", async (addresses) => {
    const before = server.requestsTotal;
    const network = { ...systemNetwork, lookup: resolvingTo(addresses) };
    await expect(download(`http://innocent.example:${server.port}/ok.jpg`, network)).rejects.toMatchObject(forbidden);
    expect(server.requestsTotal).toBe(before);
  });

  test("by a name that answers differently the second time: what was checked is what is connected to", async () => {
    const lookup = resolvingTo(["127.0.0.1"], ["169.254.169.254"]);
    const url = `http://rebinding.example:${server.port}/ok.jpg`;
    const downloader = createDownloader(downloadSpec(), { ...systemNetwork, lookup });
    await expect(downloader.download(url)).resolves.toMatchObject({ name: url });
    expect(lookup.asked()).toBe(1);
    // More at once than there are connections: new ones are asked for, and the name is resolved again.
    await expect(Promise.all([1, 2, 3].map(() => downloader.download(url)))).rejects.toMatchObject(forbidden);
    await downloader.close();
  });

  test("by an address that is seen only once connected: the connection ends before a byte is sent", async () => {
    let received = 0;
    let taken = 0;
    const listener = createServer((socket) => {
      taken += 1;
      socket.on("data", (bytes) => { received += bytes.length; });
    });
    await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
    let checks = 0;
    const network: Network = { lookup: systemLookup, forbids: () => (checks += 1) > 1 };
    const { port } = listener.address() as AddressInfo;
    await expect(download(`http://127.0.0.1:${port}/`, network)).rejects.toMatchObject(forbidden);
    await new Promise<void>((resolve) => listener.close(() => resolve()));
    expect({ taken, received }).toEqual({ taken: 1, received: 0 });
  });

  test("but loopback, private and ordinary addresses are no metadata", () => {
    const ordinary = ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.253.255.255", "169.255.0.0", "8.8.8.8",
      "100.100.100.201", "168.63.129.17", "fd00::1", "fd12:3456::1", "2001:db8::1", "::ffff:10.0.0.1", "64:ff9b::8.8.8.8", "2002:808:808::1"];
    expect(ordinary.filter(isMetadataAddress)).toEqual([]);
  });

  test("and with the zone of a link-local address it still is", () => {
    expect(isMetadataAddress("fe80::1%eth0")).toBe(true);
  });
});
