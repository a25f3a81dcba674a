import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** An authority that nobody trusts yet, and a server certificate for 127.0.0.1 and localhost that it signed. PEM. */
export interface Certificates {
  readonly authority: string;
  readonly certificate: string;
  readonly key: string;
}

/** Made by the `openssl` command, since Node can read certificates but not make them. */
export function makeCertificates(): Certificates {
  const directory = mkdtempSync(join(tmpdir(), "splitrun-certificates-"));
  const file = (name: string): string => join(directory, name);
  const request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  try {
    openssl([...request, "-subj", "/CN=splitrun test authority", "-keyout", file("authority.key"), "-out", file("authority.pem")]);
    openssl([
      ...request, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
      "-CA", file("authority.pem"), "-CAkey", file("authority.key"), "-keyout", file("server.key"), "-out", file("server.pem"),
    ]);
    const read = (name: string): string => readFileSync(file(name), "utf8");
    return { authority: read("authority.pem"), certificate: read("server.pem"), key: read("server.key") };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function openssl(args: readonly string[]): void {
  execFileSync("openssl", args, { stdio: ["ignore", "ignore", "pipe"] });
}
