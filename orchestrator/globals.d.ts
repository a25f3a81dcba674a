/** The package's version, put in by the build. */
declare const __SPLITRUN_VERSION__: string;
