package manifests

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func TestGrafanasModelHasEveryFieldOfTheDashboards(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	files, err := filepath.Glob("../../grafana/dashboards/*.json")
	must(t, err)
	if len(files) != 2 {
		t.Fatalf("dashboards %v", files)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		var d dashboard.Dashboard
		if err := d.UnmarshalJSONStrict(text); err != nil && err.Error() != "" { // it is an empty list where there is no fault
			t.Errorf("%s: %v", file, err)
		}
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if err := new(dashboard.Dashboard).UnmarshalJSONStrict(bytes.Replace(text, []byte(`"gridPos"`), []byte(`"gridPlace"`), 1)); err == nil || err.Error() == "" {
			t.Errorf("%s: a misspelt key is taken", file)
		}
	}
}
