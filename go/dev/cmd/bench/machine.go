package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// machine is what the figures depend on, and nothing that tells whose machine it is.
type machine struct {
	Cores      int    `json:"cores"`
	CPU        string `json:"cpu"`
	Kernel     string `json:"kernel"`
	FileSystem string `json:"file_system"` // of the data folders
	Go         string `json:"go"`
	Redis      string `json:"redis"`
}

// describeMachine describes the machine; folder is on the file system that the stores use.
func describeMachine(ctx context.Context, folder string) (machine, error) {
	redis, err := redisVersion(ctx)
	if err != nil {
		return machine{}, err
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return machine{}, err
	}
	version, _, _ := strings.Cut(strings.TrimSpace(string(kernel)), "-") // what follows is the distributor's
	cpu, err := cpuModel()
	if err != nil {
		return machine{}, err
	}
	fileSystem, err := fileSystemOf(folder)
	if err != nil {
		return machine{}, err
	}
	return machine{
		Cores:      runtime.NumCPU(),
		CPU:        cpu,
		Kernel:     version,
		FileSystem: fileSystem,
		Go:         runtime.Version(),
		Redis:      redis,
	}, nil
}

// cpuModel is the first processor's model name; not every architecture tells it.
func cpuModel() (string, error) {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "", err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if key, value, found := strings.Cut(lines.Text(), ":"); found && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value), nil
		}
	}
	return "unknown " + runtime.GOARCH, lines.Err()
}

const tmpfs = "tmpfs"

// fileSystems are the numbers of statfs(2).
var fileSystems = map[int64]string{
	0x01021994: tmpfs,
	0x0000ef53: "ext4",
	0x58465342: "xfs",
	0x9123683e: "btrfs",
	0x2fc12fc1: "zfs",
	0x794c7630: "overlayfs",
}

func fileSystemOf(folder string) (string, error) {
	var status syscall.Statfs_t
	if err := syscall.Statfs(folder, &status); err != nil {
		return "", err
	}
	number := int64(status.Type)
	if name, known := fileSystems[number]; known {
		return name, nil
	}
	return fmt.Sprintf("%#x", number), nil
}

// commit is the source's, with a note if it was changed since.
func commit(ctx context.Context) string {
	output, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--exclude", "*").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(output))
}

// redisVersion is the installed server's, such as "7.0.15".
func redisVersion(ctx context.Context) (string, error) {
	output, err := exec.CommandContext(ctx, "redis-server", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("redis-server is needed, and not on PATH or broken: %w", err)
	}
	for field := range strings.FieldsSeq(string(output)) {
		if version, found := strings.CutPrefix(field, "v="); found {
			return version, nil
		}
	}
	return "", fmt.Errorf("no version in %q", output)
}
