package main

import (
	"testing"

	"eproxy/test/lib/commands"
)

// TestWrongCommands: no command takes what it does not know, nor fails in a way that says nothing.
func TestWrongCommands(t *testing.T) { commands.Try(t, newApp, "unload") }
