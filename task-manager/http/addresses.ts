import { BlockList, isIP } from "node:net";

/**
 * Where clouds hand out credentials to whoever asks from inside. 169.254.0.0/16 and fe80::/10 whole: link-local
 * holds nothing that an item could be. The others by their providers' documentation: Alibaba 100.100.100.200,
 * Azure's wire server 168.63.129.16, Oracle 192.0.0.192 and fd00:c1::a9fe:a9fe, AWS fd00:ec2::/32 (instance
 * metadata, container and pod credentials), Google fd20:ce::254, Scaleway fd00:42::42.
 */
const metadataIPv4: readonly (readonly [network: string, prefix: number])[] = [
  ["169.254.0.0", 16],
  ["100.100.100.200", 32],
  ["168.63.129.16", 32],
  ["192.0.0.192", 32],
];
const metadataIPv6: readonly (readonly [network: string, prefix: number])[] = [
  ["fe80::", 10],
  ["fd00:ec2::", 32],
  ["fd20:ce::254", 128],
  ["fd00:c1::a9fe:a9fe", 128],
  ["fd00:42::42", 128],
];

/**
 * IPv6 forms of an IPv4 address: IPv4-compatible (RFC 4291), translated (RFC 2765), NAT64 (RFC 6052, RFC 8215).
 * IPv4-mapped needs none, since `BlockList` applies IPv4 rules to it.
 */
const embeddingPrefixes = ["::", "::ffff:0:", "64:ff9b::", "64:ff9b:1::"] as const;

const metadataNames: ReadonlySet<string> = new Set([
  "metadata",
  "metadata.google.internal",
  "metadata.goog",
  "metadata.azure.internal",
  "metadata.tencentyun.com",
  "instance-data",
  "instance-data.ec2.internal",
]);

const metadataAddresses = buildMetadataAddresses();

/** Is this address (as the socket has it, no brackets) a cloud's metadata service? */
export function isMetadataAddress(address: string): boolean {
  const version = isIP(address);
  if (version === 0) return false;
  return metadataAddresses.check(withoutZone(address), version === 4 ? "ipv4" : "ipv6");
}

/** The address in a URL's host name, or null where it is a name. Decimal and hex forms were normalised by `URL`. */
export function addressOfHost(hostname: string): string | null {
  const address = hostname.startsWith("[") ? hostname.slice(1, -1) : hostname;
  return isIP(address) === 0 ? null : address;
}

/** Names of metadata services: behind a proxy, where the address is not seen, only these can be told. */
export function isMetadataName(hostname: string): boolean {
  return metadataNames.has(hostname.replace(/\.$/, ""));
}

function buildMetadataAddresses(): BlockList {
  const list = new BlockList();
  for (const [network, prefix] of metadataIPv6) list.addSubnet(network, prefix, "ipv6");
  for (const [network, prefix] of metadataIPv4) {
    list.addSubnet(network, prefix, "ipv4");
    for (const embedding of embeddingPrefixes) list.addSubnet(`${embedding}${network}`, 96 + prefix, "ipv6");
    list.addSubnet(sixToFour(network), 16 + prefix, "ipv6");
  }
  return list;
}

/** 6to4 (RFC 3056): the IPv4 address follows 2002. */
function sixToFour(network: string): string {
  const [a = 0, b = 0, c = 0, d = 0] = network.split(".").map(Number);
  return `2002:${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}::`;
}

function withoutZone(address: string): string {
  const zone = address.indexOf("%");
  return zone === -1 ? address : address.slice(0, zone);
}
