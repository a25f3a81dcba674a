/** Elsewhere than on EC2 the address hangs. */
const timeoutMs = 2000;
const tokenSeconds = 300;
const addressDefault = "http://169.254.169.254";

/** What an EC2 machine says of itself: `local-ipv4`. @throws Error that says why not */
export type ReadInstanceMetadata = (path: string) => Promise<string>;

/** Asks the machine's metadata service (IMDSv2). @throws Error that says why not */
export async function instanceMetadata(environment: Readonly<Record<string, string | undefined>>): Promise<ReadInstanceMetadata> {
  if (environment["AWS_EC2_METADATA_DISABLED"]?.toLowerCase() === "true") throw new Error("AWS_EC2_METADATA_DISABLED is set");
  const endpoint = environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] ?? addressDefault;
  const ask = (path: string, init: RequestInit) => answer(new URL(path, endpoint), init);
  const token = await ask("/latest/api/token", { method: "PUT", headers: { "x-aws-ec2-metadata-token-ttl-seconds": String(tokenSeconds) } });
  return (path) => ask(`/latest/meta-data/${path}`, { headers: { "x-aws-ec2-metadata-token": token } });
}

async function answer(url: URL, init: RequestInit): Promise<string> {
  const response = await fetch(url, { ...init, signal: AbortSignal.timeout(timeoutMs), redirect: "error" }).catch((cause: unknown) => {
    throw new Error(`nothing answers at ${url.origin}`, { cause });
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${url.pathname} answered ${response.status}`);
  return text.trim();
}
