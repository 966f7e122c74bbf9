// Command image makes a container image without any other tool: what a Containerfile says
// that begins FROM scratch, and copies, as an archive for `docker load`, `ctr image import` or `podman load`.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: image CONTAINERFILE NAME:TAG ARCHIVE")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// write reads a Containerfile, and files from the working directory, and writes the archive.
func write(containerfile, name, archive string) error {
	text, err := os.ReadFile(containerfile)
	if err != nil {
		return err
	}
	i, err := parse(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", containerfile, err)
	}
	b, err := i.archive(name)
	if err != nil {
		return err
	}
	return os.WriteFile(archive, b, 0o644)
}
