import { expect, test } from "vitest";
import { sealed, unsealed } from "../../orchestrator/jobs/sealed-module.ts";

const fingerprint = "ab".repeat(32);
const code = "export default (n) => n;\n//# sourceMappingURL=data:,";

test("a sealed module has its code and its task's fingerprint", () => {
  expect(unsealed(sealed(code, fingerprint))).toEqual({ code, fingerprint });
});

test("a module that was never sealed, or was changed since, is one like any other", () => {
  for (const text of [code, "", sealed(code, fingerprint).replace("=> n", "=> m"), `${sealed(code, fingerprint)}more();\n`]) expect(unsealed(text)).toBeNull();
});
