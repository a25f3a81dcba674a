import { readFileSync } from "node:fs";
import path from "node:path";

/** How much of the memory that this process may use is in use: 1 is all of it. */
export interface MemoryGauge {
  /** For messages: what is measured against what. */
  readonly name: string;
  /** True: of this process alone. False: others count, too, as they do where a control group or the machine is full. */
  readonly own: boolean;
  read(): number;
}

const machineFiles = { controlGroups: "/sys/fs/cgroup", memberships: "/proc/self/cgroup", machine: "/proc/meminfo" };

/** The limit that was asked for; else that of the control group; else the machine's memory. null: it cannot be known here. */
export function memoryGauge(limitMb: number | null, files: typeof machineFiles = machineFiles): MemoryGauge | null {
  if (limitMb !== null) return { name: `${limitMb} MB`, own: true, read: () => process.memoryUsage.rss() / 1e6 / limitMb };
  return controlGroupGauge(files) ?? machineGauge(files);
}

/** Interface files of https://docs.kernel.org/admin-guide/cgroup-v2.html#memory and of its first version. */
const versions = [
  { controller: "", folder: "", limit: "memory.max", used: "memory.current", cache: "inactive_file" },
  { controller: "memory", folder: "memory", limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes", cache: "total_inactive_file" },
] as const;

function controlGroupGauge({ controlGroups, memberships }: typeof machineFiles): MemoryGauge | null {
  for (const { controller, folder, limit, used, cache } of versions) {
    const membership = groupOf(textOf(memberships), controller);
    if (membership === null) continue;
    // In a container the group's own path is often mounted as the root.
    for (const place of [path.join(controlGroups, folder, membership), path.join(controlGroups, folder)]) {
      const limitBytes = numberOf(textOf(path.join(place, limit)));
      // Version 1 says "no limit" by a number above any memory.
      if (limitBytes === null || limitBytes > 2 ** 60) continue;
      return {
        name: `the control group's ${Math.round(limitBytes / 1e6)} MB`,
        own: false,
        read() {
          const stat = new RegExp(`^${cache} (\\d+)$`, "m").exec(textOf(path.join(place, "memory.stat")));
          return ((numberOf(textOf(path.join(place, used))) ?? 0) - Number(stat?.[1] ?? 0)) / limitBytes;
        },
      };
    }
  }
  return null;
}

function machineGauge({ machine }: typeof machineFiles): MemoryGauge | null {
  const read = () => {
    const text = textOf(machine);
    const totalKb = Number(/^MemTotal:\s+(\d+)/m.exec(text)?.[1]);
    const availableKb = Number(/^MemAvailable:\s+(\d+)/m.exec(text)?.[1]);
    return 1 - availableKb / totalKb;
  };
  return Number.isNaN(read()) ? null : { name: "the machine's memory", own: false, read };
}

/** Lines are `number:controllers:path`; version 2 has no controllers. */
function groupOf(memberships: string, controller: string): string | null {
  for (const line of memberships.split("\n")) {
    const [, controllers = null, ...group] = line.split(":");
    if (controllers?.split(",").includes(controller)) return group.join(":");
  }
  return null;
}

function numberOf(text: string): number | null {
  return /^\d+$/.test(text.trim()) ? Number(text) : null;
}

function textOf(file: string): string {
  try {
    return readFileSync(file, "latin1");
  } catch {
    return "";
  }
}
