// Package swap gives a machine swap for the time of a test.
package swap

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// On gives this machine swap until the end of the test: on zram if there is that, else in a file, which not every file system can have.
func On(t *testing.T) {
	t.Helper()
	const size = 256 << 20
	device, remove, err := zram(size)
	if err != nil {
		device, remove = filepath.Join(t.TempDir(), "swap"), func() {}
		if err := os.WriteFile(device, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, command := range []string{"mkswap", "swapon"} {
		if out, err := exec.Command(command, device).CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v: %s", command, device, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("swapoff", device).CombinedOutput(); err != nil {
			t.Errorf("swapoff %s: %v: %s", device, err, out)
		}
		remove()
	})
}

// zram makes a compressed disk in memory.
func zram(size int) (device string, remove func(), err error) {
	b, err := os.ReadFile("/sys/class/zram-control/hot_add") // which adds one, and says its number
	if err != nil {
		return "", nil, err
	}
	number := strings.TrimSpace(string(b))
	remove = func() {
		_ = os.WriteFile("/sys/block/zram"+number+"/reset", []byte("1"), 0)
		_ = os.WriteFile("/sys/class/zram-control/hot_remove", []byte(number), 0)
	}
	if err := os.WriteFile("/sys/block/zram"+number+"/disksize", []byte(strconv.Itoa(size)), 0); err != nil {
		remove()
		return "", nil, err
	}
	return "/dev/zram" + number, remove, nil
}
