package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/runatlantis/atlantis/cmd"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
	"golang.org/x/mod/modfile"

	"github.com/atlock/atlock/go/atlock"
)

// root is the repository's folder.
const root = "../../.."

func deployed(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Every variable that the examples name, in comments, too, is a flag of the server or a setting of atlock.
func TestDeployedVariables(t *testing.T) {
	command := (&cmd.ServerCmd{Viper: viper.New()}).Init()
	addFlag(command, viper.New())
	for file, fewest := range map[string]int{"helm/values.yaml": 2, "systemd/atlantis.env": 10} {
		found := regexp.MustCompile(`\bATLANTIS_[A-Z_]+`).FindAllString(deployed(t, file), -1)
		if len(found) < fewest {
			t.Errorf("%s names %d variables, fewer than %d", file, len(found), fewest)
		}
		for _, variable := range found {
			flag := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(variable, "ATLANTIS_"), "_", "-"))
			if command.Flags().Lookup(flag) == nil && !isSetting(variable) {
				t.Errorf("%s: %s is no variable of the server", file, variable)
			}
		}
	}
}

type mount struct {
	Name string
	Path string `yaml:"mountPath"`
}

type values struct {
	Image         struct{ Tag string }
	Environment   map[string]string
	DataDirectory string `yaml:"atlantisDataDirectory"`
	Manifests     []struct {
		Kind     string
		Metadata struct{ Name string }
		Data     map[string]string
	} `yaml:"extraManifests"`
	Volumes []struct {
		Name      string
		ConfigMap struct{ Name string } `yaml:"configMap"`
	} `yaml:"extraVolumes"`
	Mounts          []mount `yaml:"extraVolumeMounts"`
	BasicAuthSecret string  `yaml:"basicAuthSecretName"`
	StatefulSet     struct {
		SecurityContext struct {
			RunAsNonRoot   bool                  `yaml:"runAsNonRoot"`
			SeccompProfile struct{ Type string } `yaml:"seccompProfile"`
		} `yaml:"securityContext"`
	} `yaml:"statefulSet"`
	Container struct {
		Escalation   *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRoot bool  `yaml:"readOnlyRootFilesystem"`
		Capabilities struct{ Drop []string }
	} `yaml:"containerSecurityContext"`
	Resources struct{ Limits map[string]string }
	Account   struct{ Mount *bool } `yaml:"serviceAccount"`
	Monitor   struct {
		Enabled bool
		Path    string
		Auth    struct {
			Secret struct {
				Enabled bool
				Name    string
				Keys    map[string]string
			} `yaml:"externalSecret"`
		}
	} `yaml:"servicemonitor"`
}

// The settings that the examples give can be read, and what they name is mounted.
func TestDeployedSettings(t *testing.T) {
	var chart values
	if err := yaml.Unmarshal([]byte(deployed(t, "helm/values.yaml")), &chart); err != nil {
		t.Fatal(err)
	}
	if len(chart.Manifests) != 1 || len(chart.Volumes) != 4 || len(chart.Mounts) != 4 ||
		chart.Volumes[0].ConfigMap.Name != chart.Manifests[0].Metadata.Name || chart.Volumes[0].Name != chart.Mounts[0].Name {
		t.Fatalf("got %+v", chart)
	}
	if want := filepath.Join(chart.Mounts[0].Path, "locking.yaml"); chart.Environment["ATLANTIS_LOCKING_CONFIG"] != want {
		t.Errorf("the settings are at %s, looked for at %s", want, chart.Environment["ATLANTIS_LOCKING_CONFIG"])
	}
	for name, c := range map[string]struct{ text, dataDir, passwordDir string }{
		"helm":    {chart.Manifests[0].Data["locking.yaml"], chart.DataDirectory, chart.Mounts[1].Path},
		"systemd": {deployed(t, "systemd/locking.yaml"), "/var/lib/atlantis", "/etc/atlantis"},
	} {
		config, err := atlock.LoadConfig(writeFile(t, filepath.Join(t.TempDir(), name+".yaml"), c.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		redis := config.Locking.Enhanced.Redis
		if !redis.TLS.Enabled || filepath.Dir(redis.TLS.CAFile) != c.passwordDir || redis.Username == "" || redis.AllowPlaintext {
			t.Errorf("%s: Redis is reached without TLS, or as its administrator: %+v", name, redis)
		}
		if config.Mode() != atlock.ModeHybrid || filepath.Dir(config.Locking.DataDir) != c.dataDir || filepath.Dir(redis.PasswordFile) != c.passwordDir {
			t.Errorf("%s: got %+v", name, config)
		}
	}
}

// The pod can gain nothing, and Prometheus logs in.
func TestDeployedPod(t *testing.T) {
	var chart values
	if err := yaml.Unmarshal([]byte(deployed(t, "helm/values.yaml")), &chart); err != nil {
		t.Fatal(err)
	}
	pod, container := chart.StatefulSet.SecurityContext, chart.Container
	if !pod.RunAsNonRoot || pod.SeccompProfile.Type != "RuntimeDefault" {
		t.Errorf("the pod: %+v", pod)
	}
	if container.Escalation == nil || *container.Escalation || !container.ReadOnlyRoot || !slices.Equal(container.Capabilities.Drop, []string{"ALL"}) {
		t.Errorf("the container: %+v", container)
	}
	if chart.Resources.Limits["memory"] == "" || chart.Account.Mount == nil || *chart.Account.Mount {
		t.Errorf("limits %+v, account %+v", chart.Resources.Limits, chart.Account)
	}
	// What the programs write to, beside the data, is mounted.
	for _, path := range []string{"/tmp", "/home/atlantis"} {
		if !slices.ContainsFunc(chart.Mounts, func(m mount) bool { return m.Path == path }) {
			t.Errorf("%s cannot be written", path)
		}
	}
	login := chart.Monitor.Auth.Secret
	if chart.BasicAuthSecret == "" || !chart.Monitor.Enabled || chart.Monitor.Path != "/metrics" || !login.Enabled || login.Name != chart.BasicAuthSecret ||
		login.Keys["username"] != "username" || login.Keys["password"] != "password" {
		t.Errorf("Prometheus does not log in by %s: %+v", chart.BasicAuthSecret, chart.Monitor)
	}
}

// Each base image can be given by its digest.
func TestBaseImagesAreArguments(t *testing.T) {
	for _, file := range []string{"Containerfile", "Containerfile.alpine"} {
		found := 0
		for line := range strings.Lines(deployed(t, file)) {
			if image, is := strings.CutPrefix(line, "FROM "); is {
				found++
				if name := regexp.MustCompile(`^\$\{([A-Z_]+)\}( AS [a-z]+)?\n$`).FindStringSubmatch(image); name == nil || !strings.Contains(deployed(t, file), "\nARG "+name[1]+"=") {
					t.Errorf("%s: %q is no argument", file, image)
				}
			}
		}
		if found != 3 {
			t.Errorf("%s has %d base images", file, found)
		}
	}
}

// What the container file takes is there, and it is the release of go.mod.
func TestContainerfile(t *testing.T) {
	text := deployed(t, "Containerfile")
	module, err := os.ReadFile(filepath.Join(root, "go", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := modfile.Parse("go.mod", module, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, require := range parsed.Require {
		if require.Mod.Path == "github.com/runatlantis/atlantis" && !strings.Contains(text, "ARG ATLANTIS_VERSION="+require.Mod.Version+"\n") {
			t.Errorf("ATLANTIS_VERSION is not %s", require.Mod.Version)
		}
	}
	if want := "golang:" + parsed.Go.Version + "-"; !strings.Contains(text, want) {
		t.Errorf("%s is missing", want)
	}
	cargo, err := os.ReadFile(filepath.Join(root, "Cargo.toml"))
	if err != nil {
		t.Fatal(err)
	}
	rust := regexp.MustCompile(`rust-version = "(.*)"`).FindSubmatch(cargo)
	if want := "rust:" + string(rust[1]) + "-"; !strings.Contains(text, want) {
		t.Errorf("%s is missing", want)
	}
	copied := 0
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] != "COPY" || strings.HasPrefix(fields[1], "--") {
			continue
		}
		for _, source := range fields[1 : len(fields)-1] {
			copied++
			if _, err := os.Stat(filepath.Join(root, source)); err != nil {
				t.Error(err)
			}
		}
	}
	if copied < 8 {
		t.Errorf("only %d sources", copied)
	}
}

// systemd understands the unit. Where it is not installed, or the server is not, only the rest is checked.
func TestUnit(t *testing.T) {
	unit := deployed(t, "systemd/atlantis.service")
	for _, want := range []string{"ExecStart=/usr/local/bin/atlantis server\n", "EnvironmentFile=/etc/atlantis/atlantis.env\n", "StateDirectory=atlantis\n"} {
		if !strings.Contains(unit, want) {
			t.Errorf("%q is missing", want)
		}
	}
	// Privileges that the server does not need.
	for _, want := range []string{
		"User=atlantis", "Group=atlantis", "UMask=0077", "StateDirectoryMode=0700", "LimitCORE=0", "NoNewPrivileges=yes", "CapabilityBoundingSet=",
		"AmbientCapabilities=", "PrivateTmp=yes", "PrivateDevices=yes", "ProtectSystem=strict", "ProtectHome=yes", "ProtectClock=yes",
		"ProtectControlGroups=yes", "ProtectHostname=yes", "ProtectKernelLogs=yes", "ProtectKernelModules=yes", "ProtectKernelTunables=yes",
		"ProtectProc=invisible", "LockPersonality=yes", "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK", "RestrictNamespaces=yes",
		"RestrictRealtime=yes", "RestrictSUIDSGID=yes", "SystemCallArchitectures=native", "SystemCallFilter=@system-service",
	} {
		if !strings.Contains(unit, "\n"+want+"\n") {
			t.Errorf("%q is missing", want)
		}
	}
	if !regexp.MustCompile(`(?m)^MemoryMax=\S+$`).MatchString(unit) {
		t.Error("the memory has no limit")
	}
	if !strings.Contains(deployed(t, "Containerfile"), " /usr/local/bin/atlantis\n") {
		t.Error("the unit and the container have the server at different places")
	}
	systemd, err := exec.LookPath("systemd-analyze")
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("systemd-analyze is not installed")
	}
	// With a program that exists, and without the user that need not exist here.
	checked := strings.NewReplacer("/usr/local/bin/atlantis server", "/bin/true", "User=atlantis\n", "", "Group=atlantis\n", "").Replace(unit)
	path := writeFile(t, filepath.Join(t.TempDir(), "atlantis.service"), checked)
	if out, err := exec.Command(systemd, "verify", "--man=no", path).CombinedOutput(); err != nil || strings.Contains(string(out), "atlantis.service") {
		t.Errorf("%v\n%s", err, out)
	}
	out, err := exec.Command(systemd, "security", "--offline=true", "--no-pager", filepath.Join(root, "deploy/systemd/atlantis.service")).CombinedOutput()
	level := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+) (\S+)`).FindSubmatch(out)
	if level == nil {
		t.Skipf("this systemd-analyze does not judge a file: %v", err)
	}
	if word := string(level[2]); word != "OK" && word != "SAFE" {
		t.Errorf("systemd-analyze calls the unit %s (%s)", word, level[1])
	}
}
