// Brings what runs functions in the Lambda emulator as on Lambda: Amazon's own runtime client (aws-lambda-ric, compiled
// from C and C++ in a minute or two: needs g++, make, cmake and python3) and the Nodes of its runtimes.
// Into a cache, where the emulator looks for them; what is there already is left alone.
// Usage: node scripts/lambda-ric.mjs
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import path from "node:path";

const cache = process.env.SPLITRUN_LAMBDA_RUNTIMES ?? path.join(process.env.XDG_CACHE_HOME ?? path.join(homedir(), ".cache"), "splitrun-lambda");
const wanted = [
  { folder: "node-22", install: "node@22", proof: "node_modules/node/bin/node" },
  { folder: "node-24", install: "node@24", proof: "node_modules/node/bin/node" },
  { folder: "ric", install: "aws-lambda-ric@4", proof: "node_modules/aws-lambda-ric/rapid-client.node" },
];

const failed = wanted.filter((each) => !bring(each));
if (failed.length > 0) console.error(`Not there: ${failed.map(({ install }) => install).join(", ")}. The emulator does without, and says so.`);
process.exitCode = failed.length > 0 ? 1 : 0;

function bring({ folder, install, proof }) {
  const target = path.join(cache, folder);
  if (existsSync(path.join(target, proof))) {
    console.log(`${install}: is there`);
    return true;
  }
  // Under another name until it is whole.
  const making = `${target}.${process.pid}`;
  mkdirSync(making, { recursive: true });
  const name = install.slice(0, install.lastIndexOf("@"));
  writeFileSync(path.join(making, "package.json"), JSON.stringify({ private: true, allowScripts: { [name]: true } }));
  const { status } = spawnSync("npm", ["install", "--no-audit", "--no-fund", "--loglevel=error", install], { cwd: making, stdio: "inherit" });
  const whole = status === 0 && existsSync(path.join(making, proof));
  if (whole) {
    rmSync(target, { recursive: true, force: true });
    renameSync(making, target);
  } else {
    rmSync(making, { recursive: true, force: true });
  }
  console.log(`${install}: ${whole ? "installed" : "could not be installed"}`);
  return whole;
}
