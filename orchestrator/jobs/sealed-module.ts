import { createHash } from "node:crypto";

/** The last line of a module that is bundled already. */
const seal = /\n\/\/# splitrunModule=([0-9a-f]{64}) ([0-9a-f]{64})\n$/;

/**
 * A bundle as it travels to machines that do not have what it was made of. It says which task it is, since to bundle it
 * once more would make other code of it.
 * @param fingerprint of the task that it is
 */
export function sealed(code: string, fingerprint: string): string {
  return `${code}\n//# splitrunModule=${fingerprint} ${sha256(code)}\n`;
}

/** null: it is a module like any other, or was changed since. */
export function unsealed(text: string): { readonly code: string; readonly fingerprint: string } | null {
  const [line = "", fingerprint = "", hash = ""] = seal.exec(text) ?? [];
  if (line === "") return null;
  const code = text.slice(0, -line.length);
  return sha256(code) === hash ? { code, fingerprint } : null;
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
