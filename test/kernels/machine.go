package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sys/unix"
)

// boot runs the kernel with the image until it powers off, keeps what the
// machine says in a log, and returns the results among it. The emulator dies
// with ctx and with this process.
func boot(ctx context.Context, a attempt, k kernel, image, log string) ([]result, error) {
	record, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer record.Close()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", strconv.Itoa(a.memory),
		"-kernel", k.vmlinuz, "-initrd", image, "-append", "console=ttyS0 quiet panic=-1 rdinit=/usr/bin/busybox -- sh /guest/init.sh",
		"-display", "none", "-monitor", "none", "-serial", "stdio", "-nic", "none", "-no-reboot")
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	cmd.Stderr = record
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	results, whole, err := read(io.TeeReader(out, record), k.release)
	err = errors.Join(err, cmd.Wait())
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = errors.New("does not end in time")
	case ctx.Err() != nil:
		err = ctx.Err()
	case err == nil && !whole:
		err = errors.New("the machine ended before its work did")
	}
	if err != nil {
		return nil, fmt.Errorf("%w; its log is %s", err, log)
	}
	return results, nil
}

// read reads the results out of what the machine says on its serial line; whole
// says whether it came to the end.
func read(in io.Reader, release string) (results []result, whole bool, err error) {
	sc := bufio.NewScanner(in)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if r, ok := parseResult(sc.Text()); ok {
			r.kernel = release
			results = append(results, r)
			progress(r)
		}
		whole = whole || isEnd(sc.Text())
	}
	return results, whole, sc.Err()
}
