import { randomUUID } from "node:crypto";
import { ServiceError } from "./errors.ts";
import { parseQuery } from "./request.ts";
import type { ServiceAnswer, ServiceRequest } from "./request.ts";

export interface Role {
  readonly name: string;
  readonly path: string;
  readonly arn: string;
  readonly id: string;
  readonly createdAtMs: number;
  trust: string;
  /** When `trust` was last set: services see it a while later. */
  trustedAtMs: number;
  description: string | null;
  maxSessionSeconds: number;
  /** Inline policies by name. */
  readonly policies: Map<string, string>;
  /** Names of attached managed policies by ARN. */
  readonly attached: Map<string, string>;
  readonly tags: Map<string, string>;
}

type Field = readonly [name: string, value: string | readonly Field[]];

const basicExecution = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole";
const roleNameForm = /^[\w+=,.@-]{1,64}$/;
const apiVersion = "2010-05-08";

/** Roles and their policies: as much of IAM as the deployment of a function needs (query protocol, answers in XML). */
export class Iam {
  readonly #accountId: string;
  readonly #roles = new Map<string, Role>();
  #rolesMade = 0;

  constructor(accountId: string) {
    this.#accountId = accountId;
  }

  get roleNames(): readonly string[] {
    return [...this.#roles.keys()];
  }

  createRole(name: string, { trust, path, nowMs }: { readonly trust: string; readonly path: string; readonly nowMs: number }): Role {
    if (!roleNameForm.test(name)) throw invalid(`The specified value for roleName is invalid: ${name}`);
    if (this.#roles.has(name)) throw new ServiceError(409, "EntityAlreadyExists", `Role with name ${name} already exists.`);
    refuseMalformed(trust);
    this.#rolesMade += 1;
    const role: Role = {
      name, path, arn: `arn:aws:iam::${this.#accountId}:role${path}${name}`, id: `AROA${String(this.#rolesMade).padStart(16, "0")}`,
      createdAtMs: nowMs, trust, trustedAtMs: nowMs, description: null, maxSessionSeconds: 3600,
      policies: new Map(), attached: new Map(), tags: new Map(),
    };
    this.#roles.set(name, role);
    return role;
  }

  byArn(arn: string): Role | null {
    return [...this.#roles.values()].find((role) => role.arn === arn) ?? null;
  }

  answer(request: ServiceRequest, nowMs: number): ServiceAnswer {
    const form = parseQuery(request.body.toString("utf8").replaceAll("+", "%20"));
    const action = form.get("Action") ?? "";
    if (form.get("Version") !== apiVersion) throw invalid(`Could not find operation ${action} for version ${form.get("Version") ?? "none"}`);
    const result = this.#perform(action, form, nowMs);
    return xml(200, [`${action}Response`, [[`${action}Result`, result], ["ResponseMetadata", [["RequestId", randomUUID()]]]]]);
  }

  #perform(action: string, form: ReadonlyMap<string, string>, nowMs: number): readonly Field[] {
    const field = (name: string): string => {
      const value = form.get(name);
      if (value === undefined) throw invalid(`The request must contain the parameter ${name}.`);
      return value;
    };
    const role = (): Role => this.#role(field("RoleName"));
    switch (action) {
      case "CreateRole": {
        const created = this.createRole(field("RoleName"), { trust: field("AssumeRolePolicyDocument"), path: form.get("Path") ?? "/", nowMs });
        created.description = form.get("Description") ?? null;
        created.maxSessionSeconds = Number(form.get("MaxSessionDuration") ?? 3600);
        for (const [key, value] of tagsOf(form)) created.tags.set(key, value);
        return [["Role", roleFields(created)]];
      }
      case "GetRole": return [["Role", roleFields(role())]];
      case "UpdateAssumeRolePolicy":
        refuseMalformed(field("PolicyDocument"));
        Object.assign(role(), { trust: field("PolicyDocument"), trustedAtMs: nowMs });
        return [];
      case "DeleteRole": return this.#deleteRole(role());
      case "PutRolePolicy":
        refuseMalformed(field("PolicyDocument"));
        role().policies.set(field("PolicyName"), field("PolicyDocument"));
        return [];
      case "GetRolePolicy": {
        const [name, document] = [field("PolicyName"), role().policies.get(field("PolicyName"))];
        if (document === undefined) throw noPolicy(name);
        return [["RoleName", role().name], ["PolicyName", name], ["PolicyDocument", encodeURIComponent(document)]];
      }
      case "ListRolePolicies":
        return [["PolicyNames", [...role().policies.keys()].map((name): Field => ["member", name])], ["IsTruncated", "false"]];
      case "DeleteRolePolicy":
        if (!role().policies.delete(field("PolicyName"))) throw noPolicy(field("PolicyName"));
        return [];
      case "AttachRolePolicy":
        role().attached.set(field("PolicyArn"), field("PolicyArn").split("/").at(-1) ?? "");
        return [];
      case "ListAttachedRolePolicies": {
        const members = [...role().attached].map(([arn, name]): Field => ["member", [["PolicyName", name], ["PolicyArn", arn]]]);
        return [["AttachedPolicies", members], ["IsTruncated", "false"]];
      }
      case "DetachRolePolicy":
        if (!role().attached.delete(field("PolicyArn"))) throw new ServiceError(404, "NoSuchEntity", `Policy ${field("PolicyArn")} was not found.`);
        return [];
      case "TagRole":
        for (const [key, value] of tagsOf(form)) role().tags.set(key, value);
        return [];
      case "ListRoleTags": return [["Tags", tagFields(role())], ["IsTruncated", "false"]];
      default: throw new ServiceError(400, "InvalidAction", `Could not find operation ${action} for version ${apiVersion}`);
    }
  }

  #role(name: string): Role {
    const role = this.#roles.get(name);
    if (role === undefined) throw new ServiceError(404, "NoSuchEntity", `The role with name ${name} cannot be found.`);
    return role;
  }

  #deleteRole(role: Role): readonly Field[] {
    if (role.policies.size > 0) throw new ServiceError(409, "DeleteConflict", "Cannot delete entity, must delete policies first.");
    if (role.attached.size > 0) throw new ServiceError(409, "DeleteConflict", "Cannot delete entity, must detach all policies first.");
    this.#roles.delete(role.name);
    return [];
  }
}

/** Whether Lambda may take the role on. */
export function trustsLambda(role: Role): boolean {
  return statementsOf(role.trust).some(({ Effect, Action, Principal }) =>
    Effect === "Allow" && list(Action).includes("sts:AssumeRole") && list((Principal as { Service?: unknown } | undefined)?.Service).includes("lambda.amazonaws.com"));
}

/** Whether a statement of the role's allows `action`; resources and conditions are not looked at. */
export function allows(role: Role, action: string): boolean {
  if (role.attached.has(basicExecution) && action.startsWith("logs:")) return true;
  return [...role.policies.values()].flatMap(statementsOf).some(({ Effect, Action }) =>
    Effect === "Allow" && list(Action).some((pattern) => matches(pattern, action)));
}

export function iamError(error: ServiceError): ServiceAnswer {
  return xml(error.status, ["ErrorResponse", [["Error", [["Type", "Sender"], ["Code", error.code], ["Message", error.message]]], ["RequestId", randomUUID()]]]);
}

function matches(pattern: string, action: string): boolean {
  return new RegExp(`^${pattern.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".")}$`, "i").test(action);
}

interface Statement {
  readonly Effect?: unknown;
  readonly Action?: unknown;
  readonly Principal?: unknown;
}

function statementsOf(document: string): readonly Statement[] {
  const statements = (JSON.parse(document) as { Statement?: Statement | readonly Statement[] }).Statement ?? [];
  return Array.isArray(statements) ? statements as readonly Statement[] : [statements as Statement];
}

function list(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.map(String) : value === undefined ? [] : [String(value)];
}

function refuseMalformed(document: string): void {
  try {
    if (statementsOf(document).length > 0) return;
  } catch {
    // Said below.
  }
  throw new ServiceError(400, "MalformedPolicyDocument", "This policy contains invalid Json");
}

function tagsOf(form: ReadonlyMap<string, string>): readonly (readonly [string, string])[] {
  const tags: (readonly [string, string])[] = [];
  for (let index = 1; form.has(`Tags.member.${index}.Key`); index += 1) {
    tags.push([form.get(`Tags.member.${index}.Key`) ?? "", form.get(`Tags.member.${index}.Value`) ?? ""]);
  }
  return tags;
}

function tagFields(role: Role): readonly Field[] {
  return [...role.tags].map(([key, value]): Field => ["member", [["Key", key], ["Value", value]]]);
}

function roleFields(role: Role): readonly Field[] {
  return [
    ["Path", role.path], ["RoleName", role.name], ["RoleId", role.id], ["Arn", role.arn],
    ["CreateDate", new Date(role.createdAtMs).toISOString()],
    ["AssumeRolePolicyDocument", encodeURIComponent(role.trust)],
    ...(role.description === null ? [] : [["Description", role.description] as const]),
    ["MaxSessionDuration", String(role.maxSessionSeconds)], ["Tags", tagFields(role)],
  ];
}

function invalid(message: string): ServiceError {
  return new ServiceError(400, "ValidationError", message);
}

function noPolicy(name: string): ServiceError {
  return new ServiceError(404, "NoSuchEntity", `The role policy with name ${name} cannot be found.`);
}

function xml(status: number, [name, content]: readonly [string, readonly Field[]]): ServiceAnswer {
  const body = `<${name} xmlns="https://iam.amazonaws.com/doc/${apiVersion}/">${elements(content)}</${name}>`;
  return { status, headers: { "content-type": "text/xml" }, body };
}

function elements(fields: readonly Field[]): string {
  return fields.map(([name, value]) => `<${name}>${typeof value === "string" ? escaped(value) : elements(value)}</${name}>`).join("");
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
