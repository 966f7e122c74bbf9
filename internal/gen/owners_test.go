package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dozen is how many fields that several goroutines share a package may have.
const dozen = 12

var ownerRow = regexp.MustCompile("(?m)^\\| `(internal/[a-z]+)` \\| ([^|]+) \\| ([^|]+) \\|$")

// source are the parsed files of a package, without its tests.
func source(t *testing.T, dir string) map[string]*ast.File {
	t.Helper()
	fset := token.NewFileSet()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*ast.File{}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(fset, f, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(f)] = parsed
	}
	return out
}

// assigned are the names of fields that anything in a package changes: an assignment, ++, delete, clear.
func assigned(files map[string]*ast.File) map[string]bool {
	out := map[string]bool{}
	mark := func(e ast.Expr) {
		for {
			switch x := e.(type) {
			case *ast.IndexExpr:
				e = x.X
			case *ast.StarExpr:
				e = x.X
			case *ast.SelectorExpr:
				out[x.Sel.Name] = true
				return
			default:
				return
			}
		}
	}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.AssignStmt:
				for _, l := range x.Lhs {
					mark(l)
				}
			case *ast.IncDecStmt:
				mark(x.X)
			case *ast.CallExpr:
				if f, ok := x.Fun.(*ast.Ident); ok && (f.Name == "delete" || f.Name == "clear") {
					mark(x.Args[0])
				}
			}
			return true
		})
	}
	return out
}

// shared are the fields that several goroutines of a package share: atomic ones, and those beside a mutex that change.
func shared(files map[string]*ast.File) []string {
	changes, out := assigned(files), map[string]bool{}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			st, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			locked := slices.ContainsFunc(st.Fields.List, func(f *ast.Field) bool {
				return slices.Contains([]string{"sync.Mutex", "sync.RWMutex"}, types.ExprString(f.Type))
			})
			for _, f := range st.Fields.List {
				for _, name := range f.Names {
					typ := types.ExprString(f.Type)
					if strings.Contains(typ, "atomic.") || locked && changes[name.Name] && !strings.HasPrefix(typ, "sync.") {
						out[spec.Name.Name+"."+name.Name] = true
					}
				}
			}
			return true
		})
	}
	return slices.Sorted(maps.Keys(out))
}

// TestOwners: each part of the data plane in the table of docs/ARCHITECTURE.md says in its doc.go what it owns and what it may
// touch, and has no more than a dozen fields that goroutines share.
func TestOwners(t *testing.T) {
	doc, err := os.ReadFile("../../docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := ownerRow.FindAllStringSubmatch(string(doc), -1)
	if len(rows) < 15 {
		t.Fatalf("docs/ARCHITECTURE.md names the owners of %d packages", len(rows))
	}
	for _, row := range rows {
		dir := filepath.Join("../..", row[1])
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("docs/ARCHITECTURE.md: %v", err)
			continue
		}
		files := source(t, dir)
		says := ""
		if f := files["doc.go"]; f != nil {
			says = strings.Join(strings.Fields(f.Doc.Text()), " ")
		}
		for _, word := range []string{" owns ", " touch"} {
			if !strings.Contains(says, word) {
				t.Errorf("%s/doc.go does not say what it%s: %q", row[1], strings.TrimRight(word, " "), says)
			}
		}
		if got := shared(files); len(got) > dozen {
			t.Errorf("%s has %d fields of shared state, at most %d: %v", row[1], len(got), dozen, got)
		}
	}
}

// TestSharedIsSeen: what TestOwners counts is found, and nothing else.
func TestSharedIsSeen(t *testing.T) {
	dir := t.TempDir()
	const text = "package x\n" +
		"type a struct { mu sync.Mutex; n, fixed int; m map[int]int; s []int; wg sync.WaitGroup }\n" +
		"type b struct { flag atomic.Bool; p []atomic.Pointer[a]; plain int }\n" +
		"func f(x *a, y *b) { x.n++; x.m[1] = 2; delete(x.m, 1); x.s = nil; y.plain = x.fixed; x.wg = sync.WaitGroup{} }\n"
	if err := os.WriteFile(filepath.Join(dir, "x.go"), []byte(text), fs.ModePerm); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(shared(source(t, dir)), " "); got != "a.m a.n a.s b.flag b.p" {
		t.Errorf("%s", got)
	}
}
