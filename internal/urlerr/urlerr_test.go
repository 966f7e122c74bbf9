package urlerr

import (
	"context"
	"errors"
	"net/url"
	"testing"
)

// TestNothingSecretIsSaid: neither a query nor a password, and errors are still known for what they are.
func TestNothingSecretIsSaid(t *testing.T) {
	for in, want := range map[string]string{
		"https://u:secret@h.example:8/a/b?key=secret#secret": "https://h.example:8/a/b: context deadline exceeded",
		"https://h/%zz?key=secret":                           "context deadline exceeded",
	} {
		err := Short(&url.Error{Op: "Post", URL: in, Err: context.DeadlineExceeded})
		if err.Error() != want || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, want %s", in, err, want)
		}
	}
	if err := Short(context.Canceled); err.Error() != context.Canceled.Error() {
		t.Errorf("another error became %v", err)
	}
}
