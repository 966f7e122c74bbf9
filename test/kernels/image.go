package main

import (
	"context"
	"embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed guest
var guest embed.FS

// file is one of an image's, and where it is here.
type file struct{ at, from string }

// tree is where an image has what tests look for at their place in the source tree.
const tree = "/eproxy"

// modules are the kernel modules that Debian's kernels do not have built in,
// each behind those that it needs.
var modules = []string{"drivers/net/veth", "net/sched/sch_ingress", "net/sched/cls_bpf", "net/netfilter/nfnetlink", "net/xfrm/xfrm_algo", "net/xfrm/xfrm_user",
	"lib/libcrc32c", "net/ipv4/netfilter/nf_defrag_ipv4", "net/ipv6/netfilter/nf_defrag_ipv6", "net/netfilter/nf_conntrack", "net/netfilter/nf_nat",
	"net/netfilter/nf_tables", "net/netfilter/nft_ct", "net/netfilter/nft_chain_nat", "net/netfilter/nft_masq"}

// payload lists what every image has; make has built it.
func payload(ctx context.Context) ([]file, error) {
	files := []file{
		{tree + "/internal/bpf/complexity.json", "internal/bpf/complexity.json"},
		{tree + "/internal/bpf/bpf.test", "bin/bpf.test"},
		{tree + "/test/netns/netns.test", "bin/netns.test"},
	}
	for _, name := range []string{"loader", "mapsctl", "userspace-fallback", "demo", "bench"} {
		files = append(files, file{tree + "/bin/" + name, "bin/" + name})
	}
	for _, name := range []string{"busybox", "ip", "mosquitto_pub"} {
		fs, err := program(ctx, name)
		if err != nil {
			return nil, err
		}
		files = append(files, fs...)
	}
	return files, nil
}

// program is an installed program with the libraries that it loads.
func program(ctx context.Context, name string) ([]file, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Errorf("%s is missing, make test-kernels installs it: %w", name, err)
	}
	files := []file{{"/usr/bin/" + name, path}}
	out, err := exec.CommandContext(ctx, "ldd", path).Output()
	if err != nil {
		return files, nil // static
	}
	for word := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(word, "/") {
			files = append(files, file{word, word})
		}
	}
	return files, nil
}

// buildImage makes the initramfs of one kernel and returns its name.
func buildImage(ctx context.Context, a attempt, k kernel, files []file) (string, error) {
	root, err := os.MkdirTemp(a.cache, "root-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(root)
	for _, f := range files {
		if err := copyFile(filepath.Join(root, f.at), f.from); err != nil {
			return "", err
		}
	}
	for i, m := range modules {
		if err := copyModule(ctx, fmt.Sprintf("%s/modules/%02d.ko", root, i), filepath.Join(k.modules, m)); err != nil {
			return "", err
		}
	}
	for at, text := range map[string]string{"/cases": a.cases, "/netns": a.netns, "/devices": a.devices} {
		if err := os.WriteFile(root+at, []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	if err := os.CopyFS(root, guest); err != nil {
		return "", err
	}
	image := filepath.Join(a.cache, k.release+".cpio")
	return image, pack(ctx, root, image)
}

func copyFile(to, from string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// copyModule copies a module, unpacked; one that this kernel has built in is
// not missed.
func copyModule(ctx context.Context, to, from string) error {
	if _, err := os.Stat(from + ".ko"); err == nil {
		return copyFile(to, from+".ko")
	}
	if _, err := os.Stat(from + ".ko.xz"); err != nil {
		return nil
	}
	text, err := output(ctx, "", "busybox", "xzcat", from+".ko.xz")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, []byte(text), 0o644)
}

// pack writes a directory as an uncompressed cpio archive: unpacking takes an
// emulated processor longer than reading.
func pack(ctx context.Context, root, image string) error {
	out, err := os.Create(image)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, "sh", "-c", "find . | busybox cpio -o -H newc")
	cmd.Dir = root
	cmd.Stdout = out
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("pack %s: %w: %s", image, err, errs.String())
	}
	return out.Close()
}
