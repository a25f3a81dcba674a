export const policyNames = ["guided", "default", "none", "policy-1", "policy-2", "policy-3"] as const;
export type PolicyName = (typeof policyNames)[number];

export const backendNames = ["sequential", "local", "auto", "lambda"] as const;
export type BackendName = (typeof backendNames)[number];
