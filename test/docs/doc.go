// Package docs keeps the documents true to the tree that they describe:
// configurations are valid, commands, flags, make targets, tests, metrics and
// files exist. What can only be run as root is run by TestShownCommandsWork in
// test/netns. The package test/lib/markdown says how a document marks what is not
// to be taken by its word.
package docs
