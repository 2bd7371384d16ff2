package manifests

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	k8syaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

const kubernetes = "../../kubernetes"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// cluster is what the manifests ask for.
type cluster struct {
	sets     []*appsv1.StatefulSet
	services []*corev1.Service
	configs  []*corev1.ConfigMap
	budgets  []*policyv1.PodDisruptionBudget
	policies []*networkingv1.NetworkPolicy
}

// take decodes one object, and refuses fields that its type does not have, and fields given twice.
func (c *cluster) take(doc []byte) error {
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(doc, &kind); err != nil {
		return err
	}
	switch kind.APIVersion + " " + kind.Kind {
	case "apps/v1 StatefulSet":
		return keep(doc, &c.sets)
	case "v1 Service":
		return keep(doc, &c.services)
	case "v1 ConfigMap":
		return keep(doc, &c.configs)
	case "policy/v1 PodDisruptionBudget":
		return keep(doc, &c.budgets)
	case "networking.k8s.io/v1 NetworkPolicy":
		return keep(doc, &c.policies)
	}
	return fmt.Errorf("no type for %+v", kind)
}

func keep[T any](doc []byte, all *[]*T) error {
	v := new(T)
	*all = append(*all, v)
	return yaml.UnmarshalStrict(doc, v)
}

func kubernetesCluster(t *testing.T) *cluster {
	t.Helper()
	var list struct {
		APIVersion string   `json:"apiVersion"`
		Kind       string   `json:"kind"`
		Resources  []string `json:"resources"`
	}
	text, err := os.ReadFile(filepath.Join(kubernetes, "kustomization.yaml"))
	must(t, err)
	must(t, yaml.UnmarshalStrict(text, &list))
	files, err := filepath.Glob(filepath.Join(kubernetes, "*.yaml"))
	must(t, err)
	if len(files) != len(list.Resources)+1 {
		t.Errorf("the kustomization lists %v, and there are %v", list.Resources, files)
	}
	c := &cluster{}
	for _, file := range list.Resources {
		text, err := os.ReadFile(filepath.Join(kubernetes, file))
		must(t, err)
		docs := k8syaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
		for {
			doc, err := docs.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			must(t, err)
			if err := c.take(doc); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
		}
	}
	if len(c.sets) != 2 || len(c.services) != 2 || len(c.configs) != 1 || len(c.budgets) != 1 || len(c.policies) != 1 {
		t.Fatalf("%+v", c)
	}
	return c
}

func TestKubernetesTypesHaveEveryFieldOfTheManifests(t *testing.T) {
	kubernetesCluster(t)
	if err := new(cluster).take([]byte("apiVersion: v1\nkind: Service\nspec: {selektor: {a: b}}\n")); err == nil {
		t.Error("a misspelt field is taken")
	}
}

// selects says whether a selector picks the pods of a set.
func selects(t *testing.T, s labels.Selector, set *appsv1.StatefulSet) {
	t.Helper()
	if s.Empty() || !s.Matches(labels.Set(set.Spec.Template.Labels)) {
		t.Errorf("%s does not select the pods of %s", s, set.Name)
	}
}

func selector(t *testing.T, s *metav1.LabelSelector) labels.Selector {
	t.Helper()
	sel, err := metav1.LabelSelectorAsSelector(s)
	must(t, err)
	return sel
}

func TestWhatTheManifestsNameOfEachOtherExists(t *testing.T) {
	c := kubernetesCluster(t)
	for _, set := range c.sets {
		selects(t, selector(t, set.Spec.Selector), set)
		selects(t, selector(t, c.budgets[0].Spec.Selector), set)
		selects(t, selector(t, &c.policies[0].Spec.PodSelector), set)
		i := slices.IndexFunc(c.services, func(s *corev1.Service) bool { return s.Name == set.Spec.ServiceName })
		if i < 0 || c.services[i].Spec.ClusterIP != corev1.ClusterIPNone || !c.services[i].Spec.PublishNotReadyAddresses {
			t.Errorf("%s: service %s is not headless, or hides nodes that are not ready yet", set.Name, set.Spec.ServiceName)
		}
		pod := set.Spec.Template.Spec
		container := pod.Containers[0]
		ports := map[string]bool{}
		for _, p := range container.Ports {
			ports[p.Name] = true
		}
		for _, s := range c.services {
			selects(t, labels.SelectorFromSet(s.Spec.Selector), set)
			for _, p := range s.Spec.Ports {
				wantPort(t, ports, p.TargetPort)
			}
		}
		for _, rule := range c.policies[0].Spec.Ingress {
			for _, p := range rule.Ports {
				wantPort(t, ports, *p.Port)
			}
		}
		wantPort(t, ports, container.LivenessProbe.HTTPGet.Port)
		wantPort(t, ports, container.ReadinessProbe.HTTPGet.Port)
		wantVolumes(t, c, set)
	}
}

func wantPort(t *testing.T, ports map[string]bool, p intstr.IntOrString) {
	t.Helper()
	if !ports[p.StrVal] {
		t.Errorf("no container has a port named %q", p.String())
	}
}

// wantVolumes says that what is mounted is there, and that the paths in the command line are in it.
func wantVolumes(t *testing.T, c *cluster, set *appsv1.StatefulSet) {
	t.Helper()
	there := map[string]bool{}
	for _, claim := range set.Spec.VolumeClaimTemplates {
		there[claim.Name] = true
	}
	for _, v := range set.Spec.Template.Spec.Volumes {
		there[v.Name] = v.ConfigMap != nil && v.ConfigMap.Name == c.configs[0].Name
	}
	mounted := map[string]bool{}
	for _, m := range set.Spec.Template.Spec.Containers[0].VolumeMounts {
		if !there[m.Name] {
			t.Errorf("%s: no volume %s", set.Name, m.Name)
		}
		mounted[m.MountPath] = true
	}
	for _, arg := range set.Spec.Template.Spec.Containers[0].Args {
		if file, ok := strings.CutPrefix(arg, "--config="); ok && (!mounted[filepath.Dir(file)] || c.configs[0].Data[filepath.Base(file)] == "") {
			t.Errorf("%s: %s is not in a volume", set.Name, file)
		}
	}
	if !mounted["/data"] || !strings.Contains(c.configs[0].Data["multiraftd.yaml"], "data-dir: /data\n") {
		t.Errorf("%s: the data directory is not on a volume", set.Name)
	}
}

func TestPodsRunWithoutAnyRightAndEndOnlyAfterTheHandover(t *testing.T) {
	for _, set := range kubernetesCluster(t).sets {
		pod := set.Spec.Template.Spec
		own := pod.Containers[0].SecurityContext
		if !*pod.SecurityContext.RunAsNonRoot || *own.AllowPrivilegeEscalation || !*own.ReadOnlyRootFilesystem || !slices.Equal(own.Capabilities.Drop, []corev1.Capability{"ALL"}) || *pod.AutomountServiceAccountToken {
			t.Errorf("%s: %+v %+v", set.Name, pod.SecurityContext, own)
		}
		// 10 s for the handover (docs/operations.md), the hook's before it, and as much again to close.
		if grace, hook := *pod.TerminationGracePeriodSeconds, pod.Containers[0].Lifecycle.PreStop.Sleep.Seconds; grace < 2*(10+hook) {
			t.Errorf("%s: %d s are too few", set.Name, grace)
		}
		if r := set.Spec.PersistentVolumeClaimRetentionPolicy; r.WhenDeleted != appsv1.RetainPersistentVolumeClaimRetentionPolicyType || r.WhenScaled != appsv1.RetainPersistentVolumeClaimRetentionPolicyType {
			t.Errorf("%s: a volume that is deleted with its pod takes what it acknowledged along", set.Name)
		}
	}
	if u := kubernetesCluster(t).budgets[0].Spec.MaxUnavailable; u.IntValue() != 1 {
		t.Errorf("%v nodes may be away at once", u)
	}
}
