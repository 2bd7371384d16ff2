package manifests

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v3"
)

const docker = "../../docker"

func compose(t *testing.T, text []byte) (*types.Project, error) {
	t.Helper()
	dir, err := filepath.Abs(docker)
	must(t, err)
	return loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir: dir, ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "compose.yaml"), Content: text}}, Environment: types.Mapping{},
	}, func(o *loader.Options) { o.Profiles = []string{"*"} })
}

func TestComposeTakesTheFileAndWhatItNamesExists(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(docker, "compose.yaml"))
	must(t, err)
	project, err := compose(t, text)
	must(t, err)
	for name, s := range project.Services {
		if s.Build != nil {
			if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %s is open to everybody", name, p.Published)
			}
		}
	}
	if want := []string{"grafana", "jaeger", "mrctl", "node1", "node2", "node3", "prometheus"}; !slices.Equal(slices.Sorted(slices.Values(project.ServiceNames())), want) {
		t.Errorf("services %v", project.ServiceNames())
	}
	if _, err := compose(t, []byte(strings.Replace(string(text), "stop_grace_period", "stop_grace", 1))); err == nil {
		t.Error("a misspelt key is taken")
	}
}

// The files that Grafana reads at its start name each other, Prometheus and Jaeger.
func TestGrafanaIsGivenServicesAndFoldersThatTheComposeFileHas(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(docker, "compose.yaml"))
	must(t, err)
	project, err := compose(t, text)
	must(t, err)
	var sources struct {
		Datasources []struct{ UID, Type, URL string }
	}
	readYAML(t, "../../grafana/provisioning/datasources/multiraftd.yaml", &sources)
	for _, s := range sources.Datasources {
		host, _, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
		if _, ok := project.Services[host]; !ok {
			t.Errorf("data source %s is at %s, which is no service", s.UID, s.URL)
		}
	}
	var boards struct {
		Providers []struct{ Options struct{ Path string } }
	}
	readYAML(t, "../../grafana/provisioning/dashboards/multiraftd.yaml", &boards)
	for _, p := range boards.Providers {
		if !slices.ContainsFunc(project.Services["grafana"].Volumes, func(v types.ServiceVolumeConfig) bool { return v.Target == p.Options.Path }) {
			t.Errorf("no volume at %s", p.Options.Path)
		}
	}
	if len(sources.Datasources) != 2 || len(boards.Providers) != 1 {
		t.Errorf("%+v %+v", sources, boards)
	}
}

func readYAML(t *testing.T, file string, v any) {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	must(t, yaml.Unmarshal(text, v))
}
