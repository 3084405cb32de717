package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
	Mounts []struct {
		Name string
		Path string `yaml:"mountPath"`
	} `yaml:"extraVolumeMounts"`
}

// The settings that the examples give can be read, and what they name is mounted.
func TestDeployedSettings(t *testing.T) {
	var chart values
	if err := yaml.Unmarshal([]byte(deployed(t, "helm/values.yaml")), &chart); err != nil {
		t.Fatal(err)
	}
	if len(chart.Manifests) != 1 || len(chart.Volumes) != 2 || len(chart.Mounts) != 2 ||
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
		if config.Mode() != atlock.ModeHybrid || filepath.Dir(config.Locking.DataDir) != c.dataDir || filepath.Dir(redis.PasswordFile) != c.passwordDir {
			t.Errorf("%s: got %+v", name, config)
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
}
