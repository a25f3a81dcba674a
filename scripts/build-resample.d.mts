/** The text of task-manager/pipeline/resample-wasm.ts for the present resample.wat. */
export function resampleModule(): Promise<string>;
