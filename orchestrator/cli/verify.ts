import path from "node:path";
import type { Command } from "commander";
import { isS3 } from "../inputs/is-s3.ts";
import { count, errorsText } from "../observe/progress.ts";
import { verify, type Receipt } from "../results/verify.ts";
import { exitCodes } from "./exit-codes.ts";
import { requesterPaysOption, withOutput } from "./in-s3.ts";

export function addVerify(program: Command): void {
  program
    .command("verify")
    .summary("the receipt: every input has exactly one result or error")
    .description("Checks a home against its own record of the list: nothing missing, nothing twice, nothing foreign.\nExits with 0 if so, 1 if not. Needs neither the list nor, of a directory, the network. Of an output in S3 every part is read once.")
    .argument("<home>", "output directory of the run, or s3://bucket/prefix/")
    .addOption(requesterPaysOption())
    .option("--json", "as one JSON object")
    .action(async (home: string, flags: { readonly json?: true; readonly requesterPays?: true }) => {
      const receipt = isS3(home) ? await verifyInS3(home, flags) : await verify(path.resolve(home));
      if (flags.json) process.stdout.write(`${JSON.stringify(receipt)}\n`);
      else {
        process.stdout.write(
          `${receipt.ok ? "Whole" : "NOT whole"}: ${count(receipt.items)} items = ${count(receipt.succeeded)} results + ${errorsText(receipt.failed)}; ` +
            `${count(receipt.missing)} missing, ${count(receipt.duplicates)} twice, ${count(receipt.foreign)} foreign\n`,
        );
        for (const problem of receipt.problems) process.stdout.write(`  ${problem}\n`);
      }
      process.exitCode = receipt.ok ? exitCodes.succeeded : exitCodes.withErrors;
    });
}

async function verifyInS3(url: string, flags: { readonly requesterPays?: true }): Promise<Receipt> {
  const { verifyOutput } = await import("../results/s3/verify-output.ts");
  return withOutput(url, flags, verifyOutput);
}
