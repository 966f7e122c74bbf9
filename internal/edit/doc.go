// Package edit changes single values in the text of a configuration and keeps the
// rest, comments included. It owns nothing. What it returns is not checked for more
// than the change needs: config.Parse says whether it is a configuration.
package edit
