package main

import (
	"fmt"
	"runtime/debug"
)

// version is set by the linker on a release.
var version = "dev"

type versionCommand struct{}

// Run implements the command.
func (versionCommand) Run(s streams) error {
	_, err := fmt.Fprintln(s.out, "mailkeep", buildVersion())
	return err
}

// buildVersion returns the version that the linker set, else the commit that was built.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if version != "dev" || !ok {
		return version
	}
	return versionOf(info)
}

func versionOf(info *debug.BuildInfo) string {
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	commit := settings["vcs.revision"]
	switch {
	case commit == "" && info.Main.Version != "" && info.Main.Version != "(devel)":
		return info.Main.Version // go install of a published version has no repository
	case commit == "":
		return version
	}
	commit = commit[:min(len(commit), 12)]
	if settings["vcs.modified"] == "true" {
		commit += "+dirty"
	}
	return commit
}
