// Command chart renders the Helm chart. What it writes with the chart's own values is
// deploy/eproxy.yaml, for those who do not use Helm; a file of values makes it write what
// helm template would.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
)

// namespace is where the plain manifest installs eproxy; a chart's is the installer's choice.
const namespace = "eproxy"

func main() {
	if len(os.Args) != 2 && len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: chart DIR [VALUES]")
		os.Exit(2)
	}
	var values map[string]any
	if len(os.Args) == 3 {
		var err error
		if values, err = common.ReadValuesFile(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "chart:", err)
			os.Exit(1)
		}
	}
	out, err := plain(os.Args[1], values)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
	_, _ = os.Stdout.Write(out)
}

// plain is the manifest for kubectl: what the chart makes, and its namespace.
func plain(dir string, values map[string]any) ([]byte, error) {
	const head = `# Made of the Helm chart beside it by make generate-manifest.
apiVersion: v1
kind: Namespace
metadata:
  name: ` + namespace + `
  labels:
    # hostNetwork and the capabilities that loading BPF programs needs
    pod-security.kubernetes.io/enforce: privileged
`
	objects, err := render(dir, values)
	if err != nil {
		return nil, err
	}
	return []byte(head + objects), nil
}

// render is what the chart makes with values beside its own: CRDs first, then the files of its
// templates by name.
func render(dir string, values map[string]any) (string, error) {
	c, err := loader.Load(dir)
	if err != nil {
		return "", fmt.Errorf("load %s: %w", dir, err)
	}
	all, err := util.ToRenderValues(c, values, common.ReleaseOptions{Name: "eproxy", Namespace: namespace, Revision: 1, IsInstall: true}, common.DefaultCapabilities)
	if err != nil {
		return "", fmt.Errorf("values of %s: %w", dir, err)
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return "", fmt.Errorf("render %s: %w", dir, err)
	}
	var out bytes.Buffer
	for _, crd := range c.CRDObjects() {
		add(&out, string(crd.File.Data))
	}
	var names []string
	for name := range files {
		if filepath.Ext(name) == ".yaml" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		add(&out, files[name])
	}
	return out.String(), nil
}

// add adds the documents of a file that hold something.
func add(out *bytes.Buffer, text string) {
	for doc := range strings.SplitSeq("\n"+text, "\n---\n") {
		if doc = strings.TrimSpace(doc); doc != "" {
			fmt.Fprintf(out, "---\n%s\n", doc)
		}
	}
}
