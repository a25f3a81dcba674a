import { createHash, generateKeyPairSync, randomBytes, sign } from "node:crypto";

/** Of a server that nobody has to trust by name: who was handed the fingerprint knows it again. */
export interface OwnCertificate {
  /** PEM. Stays in this process. */
  readonly key: string;
  /** PEM. */
  readonly certificate: string;
  /** SHA-256 of it, hex. */
  readonly fingerprint: string;
}

const dayMs = 86_400_000;
/** Clocks differ; nobody looks, but OpenSSL wants a time. */
const validBeforeMs = dayMs;
const validForMs = 365 * dayMs;
const commonName = "splitrun";

/** DER's tags, and the three identifiers of objects that such a certificate has. */
const tag = { integer: 0x02, bitString: 0x03, utf8String: 0x0c, utcTime: 0x17, sequence: 0x30, set: 0x31, version: 0xa0 } as const;
const ecdsaWithSha256 = Buffer.from("06082a8648ce3d040302", "hex");
const commonNameId = Buffer.from("0603550403", "hex");

/** A key of its own and a certificate signed with it (RFC 5280), which Node can read but not make. */
export function makeCertificate(): OwnCertificate {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
  const content = sequence(
    der(tag.version, der(tag.integer, Buffer.of(2))),
    der(tag.integer, positive(randomBytes(16))),
    sequence(ecdsaWithSha256),
    name(),
    sequence(time(Date.now() - validBeforeMs), time(Date.now() + validForMs)),
    name(),
    publicKey.export({ type: "spki", format: "der" }),
  );
  const signature = sign("sha256", content, privateKey);
  const whole = sequence(content, sequence(ecdsaWithSha256), der(tag.bitString, Buffer.of(0), signature));
  return {
    key: String(privateKey.export({ type: "pkcs8", format: "pem" })),
    certificate: `-----BEGIN CERTIFICATE-----\n${whole.toString("base64").replace(/.{64}/g, "$&\n")}\n-----END CERTIFICATE-----\n`,
    fingerprint: createHash("sha256").update(whole).digest("hex"),
  };
}

function der(tagged: number, ...parts: readonly Buffer[]): Buffer {
  const value = Buffer.concat(parts);
  return Buffer.concat([Buffer.of(tagged), length(value.length), value]);
}

function length(bytes: number): Buffer {
  if (bytes < 0x80) return Buffer.of(bytes);
  return bytes < 0x100 ? Buffer.of(0x81, bytes) : Buffer.of(0x82, bytes >> 8, bytes & 0xff);
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return der(tag.sequence, ...parts);
}

function name(): Buffer {
  return sequence(der(tag.set, sequence(commonNameId, der(tag.utf8String, Buffer.from(commonName)))));
}

/** As UTCTime: years from 1950 to 2049. */
function time(epochMs: number): Buffer {
  const digits = new Date(epochMs).toISOString().replace(/\D/g, "").slice(2, 14);
  return der(tag.utcTime, Buffer.from(`${digits}Z`));
}

/** Neither negative nor with a zero in front. */
function positive(bytes: Buffer): Buffer {
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes;
}
