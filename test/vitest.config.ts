import { defineConfig } from "vitest/config";

export default defineConfig({
  define: { __SPLITRUN_VERSION__: JSON.stringify("test") },
  test: {
    root: new URL("..", import.meta.url).pathname,
    include: ["test/**/*.test.ts"],
    pool: "forks",
    maxWorkers: 2,
    // Of what hangs: no test is to fail because a machine is slow.
    testTimeout: 240_000,
    hookTimeout: 240_000,
  },
});
