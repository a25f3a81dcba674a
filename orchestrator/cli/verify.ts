import path from "node:path";
import type { Command } from "commander";
import { count } from "../observe/progress.ts";
import { verify } from "../results/verify.ts";
import { exitCodes } from "./exit-codes.ts";

export function addVerify(program: Command): void {
  program
    .command("verify")
    .summary("the receipt: every input has exactly one result or error")
    .description("Checks a home against its own record of the list: nothing missing, nothing twice, nothing foreign.\nExits with 0 if so, 1 if not. Needs neither the list nor the network.")
    .argument("<home>", "output directory of the run")
    .option("--json", "as one JSON object")
    .action(async (home: string, flags: { readonly json?: true }) => {
      const receipt = await verify(path.resolve(home));
      if (flags.json) process.stdout.write(`${JSON.stringify(receipt)}\n`);
      else {
        process.stdout.write(
          `${receipt.ok ? "Whole" : "NOT whole"}: ${count(receipt.items)} items = ${count(receipt.succeeded)} results + ${count(receipt.failed)} errors; ` +
            `${count(receipt.missing)} missing, ${count(receipt.duplicates)} twice, ${count(receipt.foreign)} foreign\n`,
        );
        for (const problem of receipt.problems) process.stdout.write(`  ${problem}\n`);
      }
      process.exitCode = receipt.ok ? exitCodes.succeeded : exitCodes.withErrors;
    });
}
