import { readFile } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { parse } from "yaml";
import type { CollectionTag, ScalarTag } from "yaml";
import { functionNames, logGroupOf, policyDocument, policyName, roleNameOf, trustDocument } from "../../infra/documents.ts";
import { completeSettings } from "../../infra/options.ts";
import type { RuntimeOptions } from "../../infra/options.ts";
import { createInput, ownerTag, wantedFunctions } from "../../infra/wanted.ts";

type Value = string | number | boolean | null | undefined | readonly Value[] | { readonly [key: string]: Value };
type Fields = { readonly [key: string]: Value };

interface Template {
  readonly Parameters: Readonly<Record<string, { readonly Type: string; readonly Default: string | number }>>;
  readonly Conditions: Fields;
  readonly Resources: Readonly<Record<string, { readonly Type: string; readonly Condition?: string; readonly Properties: Fields }>>;
}

const account = { partition: "aws-cn", accountId: "111122223333", region: "cn-north-1" };
const roleArn = `arn:${account.partition}:iam::${account.accountId}:role/`;
const shortForms = ["Ref", "Sub", "GetAtt", "If", "Equals", "Not", "Or", "Join", "Condition"];

/** `!Sub x` as `{ "Fn::Sub": "x" }`, as CloudFormation reads it. */
const customTags = shortForms.flatMap((name): readonly (ScalarTag | CollectionTag)[] => {
  const long = name === "Ref" || name === "Condition" ? name : `Fn::${name}`;
  return [
    { tag: `!${name}`, resolve: (text: string) => ({ [long]: text }) },
    { tag: `!${name}`, collection: "seq", resolve: (seq) => ({ [long]: (seq as { toJSON(): unknown }).toJSON() }) } as CollectionTag,
  ];
});

async function readTemplate(): Promise<Template> {
  return parse(await readFile(path.resolve(import.meta.dirname, "../../infra/template.yaml"), "utf8"), { customTags }) as Template;
}

/** The resources that CloudFormation would make, with these parameters. */
function resourcesOf(template: Template, given: Readonly<Record<string, string | number>>): Readonly<Record<string, Fields>> {
  const parameters: Record<string, Value> = {
    "AWS::Partition": account.partition, "AWS::AccountId": account.accountId, "AWS::Region": account.region, "AWS::NoValue": undefined,
  };
  for (const [name, { Type, Default }] of Object.entries(template.Parameters)) {
    const value = given[name] ?? Default;
    parameters[name] = Type === "CommaDelimitedList" ? String(value).split(",") : value;
  }

  const holds = (condition: Value): boolean => (typeof condition === "string" ? holds(template.Conditions[condition]) : evaluate(condition) === true);
  function refer(name: string): Value {
    if (name in parameters) return parameters[name];
    const { Type, Properties } = template.Resources[name] ?? { Type: "", Properties: {} };
    if (Type === "AWS::Logs::LogGroup") return evaluate(Properties["LogGroupName"]);
    throw new Error(`${name} is not there`);
  }
  function call(name: string, argument: Value): Value {
    const list = Array.isArray(argument) ? argument as readonly Value[] : [];
    switch (name) {
      case "Ref": return refer(String(argument));
      case "Condition": return holds(argument);
      case "Fn::Sub": return String(argument).replaceAll(/\$\{([^}]+)\}/g, (_all, inner: string) => String(refer(inner)));
      case "Fn::GetAtt": return `${roleArn}${String(evaluate(template.Resources["Role"]?.Properties["RoleName"]))}`;
      case "Fn::If": return holds(list[0]) ? evaluate(list[1]) : evaluate(list[2]);
      case "Fn::Equals": return String(evaluate(list[0])) === String(evaluate(list[1]));
      case "Fn::Not": return !holds(list[0]);
      case "Fn::Or": return list.some(holds);
      case "Fn::Join": return (evaluate(list[1]) as readonly Value[]).join(String(list[0]));
      default: throw new Error(`${name} is not known to this test`);
    }
  }
  function evaluate(value: Value): Value {
    if (Array.isArray(value)) return (value as readonly Value[]).map(evaluate).filter((each) => each !== undefined);
    if (typeof value !== "object" || value === null) return value;
    const entries = Object.entries(value);
    const [only] = entries;
    if (entries.length === 1 && only !== undefined && /^(Ref|Condition|Fn::\w+)$/.test(only[0]) && !(only[0] === "Condition" && typeof only[1] !== "string")) return call(only[0], only[1]);
    return Object.fromEntries(entries.map(([key, inner]) => [key, evaluate(inner)]).filter(([, inner]) => inner !== undefined));
  }
  return Object.fromEntries(Object.entries(template.Resources)
    .filter(([, { Condition }]) => Condition === undefined || holds(Condition))
    .map(([name, { Properties }]) => [name, evaluate(Properties) as Fields]));
}

/** What `deploy` sends, in the words of the template. */
function sentFor(options: RuntimeOptions): Readonly<Record<string, Fields>> {
  const settings = completeSettings(options);
  const tag = [{ Key: ownerTag, Value: settings.name }];
  const names = functionNames(settings);
  const wishes = wantedFunctions(settings, { code: { kind: "zip", codeSha256: "", contentSha256: "" }, artifacts: [], names, stagings: [] });
  const functions = wishes.map((wish) => {
    // The description tells one content from another, which a stack does by itself; the package's type goes without saying.
    const { Description: _description, PackageType: _type, VpcConfig, ...input } = createInput(wish, `${roleArn}${roleNameOf(settings.name)}`);
    return {
      ...input, CodeUri: "function.zip", AutoPublishAlias: "live",
      ...(settings.vpc === null ? {} : { VpcConfig }),
      ...(wish.reservedConcurrency === null ? {} : { ReservedConcurrentExecutions: wish.reservedConcurrency }),
    };
  });
  const groups = names.map((name) => ({ LogGroupName: logGroupOf(name), RetentionInDays: settings.retentionDays, Tags: tag }));
  const resources = {
    Role: {
      RoleName: roleNameOf(settings.name), Description: "What the Task Managers of splitrun may do", AssumeRolePolicyDocument: JSON.parse(trustDocument) as Value,
      Policies: [{ PolicyName: policyName, PolicyDocument: JSON.parse(policyDocument(settings, account)) as Value }], Tags: tag,
    },
    LogGroup: groups[0], StepUpLogGroup: groups[1], Function: functions[0], StepUpFunction: functions[1],
  };
  return Object.fromEntries(Object.entries(resources).filter(([, value]) => value !== undefined)) as unknown as Readonly<Record<string, Fields>>;
}

test.each<[string, Readonly<Record<string, string | number>>, RuntimeOptions]>([
  ["nothing said", {}, {}],
  ["everything said", {
    FunctionName: "vision", MemoryMb: 2048, MemoryStepUpMb: 4096, TimeoutSeconds: 600, EphemeralMb: 2048, Architecture: "arm64", NodeRuntime: "nodejs24.x", RetentionDays: 30,
    ReservedConcurrency: 50, StagingBucket: "staging", StagingPrefix: "team/", ReadBucket: "images", ReadPrefix: "in/", WriteBucket: "images", WritePrefix: "out/",
    SubnetIds: "subnet-1,subnet-2", SecurityGroupIds: "sg-1",
  }, {
    name: "vision", memoryMb: 2048, memoryStepUpMb: 4096, timeoutSeconds: 600, ephemeralMb: 2048, architecture: "arm64", nodeRuntime: "nodejs24.x", retentionDays: 30,
    reservedConcurrency: 50, stagingBucket: "s3://staging/team/", read: ["s3://images/in/"], write: ["s3://images/out/"], vpc: { subnetIds: ["subnet-1", "subnet-2"], securityGroupIds: ["sg-1"] },
  }],
  ["whole buckets", { ReadBucket: "images", WriteBucket: "results" }, { read: ["images"], write: ["s3://results"] }],
])("the stack is what deploy makes, with %s", async (_what, parameters, options) => {
  expect(resourcesOf(await readTemplate(), parameters)).toEqual(sentFor(options));
});

test("every option of deploy that a stack can have is a parameter with the same default", async () => {
  const { Parameters } = await readTemplate();
  const defaults = completeSettings({});
  const same = (parameter: string, value: unknown): void => expect([parameter, String(Parameters[parameter]?.Default)]).toEqual([parameter, String(value)]);
  same("FunctionName", defaults.name);
  same("MemoryMb", defaults.memoryMb);
  same("TimeoutSeconds", defaults.timeoutSeconds);
  same("EphemeralMb", defaults.ephemeralMb);
  same("Architecture", defaults.architecture);
  same("NodeRuntime", defaults.nodeRuntime);
  same("RetentionDays", defaults.retentionDays);
});
