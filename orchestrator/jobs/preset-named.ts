import { presets, type PreprocessPreset } from "./presets.ts";

export const presetNames: readonly string[] = Object.keys(presets);

export function presetNamed(name: string): PreprocessPreset | undefined {
  const byName: Readonly<Record<string, PreprocessPreset>> = presets;
  return Object.hasOwn(byName, name) ? structuredClone(byName[name]) : undefined;
}
